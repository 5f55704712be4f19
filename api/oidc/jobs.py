"""JWTs of jobs: which issuers may speak for them, and what such a JWT must say."""

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from joserfc.errors import JoseError
from joserfc.jwt import JWTClaimsRegistry

from api.oidc.issuer import LEEWAY_SECONDS, Issuer, check_subject
from api.oidc.untrusted import UntrustedError
from storage.metadata.records import Word

MAX_JWT_LENGTH = 16 << 10
MAX_LIFETIME_SECONDS = 24 * 3600
_JWT = re.compile(r"[A-Za-z0-9_-]{2,}\.([A-Za-z0-9_-]{2,})\.[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class VerifiedJob:
    """What an issuer says of a job, and until when."""

    word: Word
    expires_at: datetime


class JobIssuers:
    """The issuers whose JWTs jobs may send.

    Args:
        issuers: of the settings.
        audience: `aud` that a JWT must have: it was made for this service and for no other.
    """

    def __init__(self, issuers: Iterable[str], audience: str) -> None:
        self._issuers = {issuer: Issuer(issuer, "WEIGHBRIDGE_JOB_ISSUERS") for issuer in issuers}
        self._audience = audience

    def find(self, token: str) -> Issuer | None:
        """Return the issuer that a JWT claims to be of, None where that is none of ours. Nothing of it is verified."""
        match = _JWT.fullmatch(token) if len(token) <= MAX_JWT_LENGTH else None
        if match is None:
            return None
        try:
            claims: Any = json.loads(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)))
        except (ValueError, RecursionError):
            return None
        issuer = cast("dict[str, Any]", claims).get("iss") if isinstance(claims, dict) else None
        return self._issuers.get(issuer) if isinstance(issuer, str) else None

    def verify(self, issuer: Issuer, token: str) -> VerifiedJob:
        """Return what an issuer says in a JWT.

        Raises:
            UntrustedError: it does not say it, not to us, or not now.
            IdentityProviderUnavailableError: its keys cannot be had.
        """
        return self._check(issuer, issuer.verify(token).claims)

    def verify_at_once(self, issuer: Issuer, token: str) -> VerifiedJob | None:
        """Return what `verify` returns, None where the issuer's keys must be fetched first. It never waits.

        Raises:
            UntrustedError: the issuer does not say it, not to us, or not now.
        """
        verified = issuer.verify_at_once(token)
        return None if verified is None else self._check(issuer, verified.claims)

    def _check(self, issuer: Issuer, claims: dict[str, Any]) -> VerifiedJob:
        registry = JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer.url},
            aud={"essential": True, "value": self._audience},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise UntrustedError(f"its claims do not hold ({error})") from error
        ends, begins = claims["exp"], claims["iat"]
        if ends - begins > MAX_LIFETIME_SECONDS:
            raise UntrustedError("it lives for more than 24 hours; let the issuer make shorter ones")
        return VerifiedJob(
            Word(issuer.url, check_subject(claims["sub"])), datetime.fromtimestamp(ends + LEEWAY_SECONDS, UTC)
        )
