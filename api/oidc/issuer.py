"""Issuers of JWTs: their description and keys, fetched now and then; signatures, checked by joserfc."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from api.oidc.fetching import fetch_json, require_safe_url
from api.oidc.untrusted import UntrustedError
from registry.errors import ConfigurationError, IdentityProviderUnavailableError

ALGORITHMS = [
    *(f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)),
    *("EdDSA", "Ed25519"),
]
"""Signatures by a key that only the issuer has. Nothing shared (HS…), and never `none`."""
LEEWAY_SECONDS = 60
MAX_SUBJECT_LENGTH = 500
KEEP_SECONDS = 3600
REFRESH_SECONDS = 60
"""Keys are fetched again for an unknown `kid` no more often than this."""
PAUSE_SECONDS = 10
"""How long an issuer that did not answer is left alone."""
WAIT_SECONDS = 5.0
"""Since a fetch began: how long others wait for what it brings."""

log = logging.getLogger("weighbridge.oidc")


class Known(NamedTuple):
    """What an issuer said of itself, and when: seconds of its clock."""

    description: dict[str, Any]
    keys: KeySet
    fetched_at: float


class Issuer:
    """One issuer that an administrator named. Safe to share between threads.

    Args:
        url: as `iss` says it.
        variable: the setting that names it.
        clock: in seconds, that never goes back.
    """

    def __init__(self, url: str, variable: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = require_safe_url(url, variable)
        self._clock = clock
        self._turn = threading.Lock()
        self._known: Known | None = None
        self._fetching_since: float | None = None
        self._failure: tuple[float, IdentityProviderUnavailableError] | None = None

    def description(self) -> dict[str, Any]:
        """Return what the issuer says of itself (OpenID Connect Discovery 1.0).

        Raises:
            IdentityProviderUnavailableError: it does not answer as it should.
        """
        return self._current(KEEP_SECONDS).description

    def verify_at_once(self, token: str) -> jwt.Token | None:
        """Return what `verify` returns, None where keys must be fetched first. It never waits.

        Raises:
            UntrustedError: the issuer signed no such thing.
        """
        known = self._young(KEEP_SECONDS)
        if known is None:
            return None
        try:
            return _decode(token, known.keys)
        except InvalidKeyIdError as error:
            if self._young(REFRESH_SECONDS) is None:
                return None
            raise _unknown_key() from error

    def verify(self, token: str) -> jwt.Token:
        """Return the header and claims of a JWT that this issuer signed; the claims are not looked at yet.

        Raises:
            UntrustedError: it signed no such thing.
            IdentityProviderUnavailableError: its keys cannot be had.
        """
        try:
            return _decode(token, self._current(KEEP_SECONDS).keys)
        except InvalidKeyIdError:
            keys = self._current(REFRESH_SECONDS).keys
        try:
            return _decode(token, keys)
        except InvalidKeyIdError as error:
            raise _unknown_key() from error

    def _young(self, keep_seconds: float) -> Known | None:
        known = self._known
        return known if known is not None and self._clock() - known.fetched_at < keep_seconds else None

    def _current(self, keep_seconds: float) -> Known:
        """Return what is no older than that; one thread fetches it, and who needs it waits for a bounded time."""
        known = self._young(keep_seconds)
        if known is not None:
            return known
        if not self._turn.acquire(timeout=self._patience_seconds()):
            raise IdentityProviderUnavailableError(
                f"The identity provider {self.url} has been asked for its keys and takes long to answer. Try again in "
                "a minute."
            )
        try:
            return self._young(keep_seconds) or self._refresh()
        finally:
            self._turn.release()

    def _patience_seconds(self) -> float:
        since = self._fetching_since
        return WAIT_SECONDS if since is None else max(0.0, since + WAIT_SECONDS - self._clock())

    def _refresh(self) -> Known:
        """Fetch, unless the last fetch failed just now. For the thread whose turn it is."""
        if self._failure is not None and self._clock() - self._failure[0] < PAUSE_SECONDS:
            raise self._failure[1]
        self._fetching_since = self._clock()
        try:
            known = Known(*self._fetch(), self._clock())
        except IdentityProviderUnavailableError as error:
            self._failure = (self._clock(), error)
            raise
        finally:
            self._fetching_since = None
        self._known, self._failure = known, None
        return known

    def _fetch(self) -> tuple[dict[str, Any], KeySet]:
        description = fetch_json(f"{self.url.rstrip('/')}/.well-known/openid-configuration")
        if description.get("issuer") != self.url:
            raise self._unusable("`issuer` in it is another")
        try:
            address = require_safe_url(description.get("jwks_uri"), "`jwks_uri` in it")
            document: Any = fetch_json(address)
            return description, KeySet.import_key_set(document)
        except ConfigurationError as error:
            raise self._unusable(error.detail) from error
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._unusable(f"its keys cannot be read ({type(error).__name__})") from error

    def _unusable(self, reason: str) -> IdentityProviderUnavailableError:
        log.warning("The issuer %s describes itself in a way that cannot be used: %s", self.url, reason)
        return IdentityProviderUnavailableError(
            f"The identity provider {self.url} describes itself in a way that cannot be used: {reason}. See its "
            "`.well-known/openid-configuration`."
        )


def check_subject(subject: str) -> str:
    """Return a subject that can be bound to a user.

    Raises:
        UntrustedError: none can be called that.
    """
    if not 0 < len(subject) <= MAX_SUBJECT_LENGTH or not subject.isprintable():
        raise UntrustedError("its subject is empty, too long, or cannot be shown")
    return subject


def _unknown_key() -> UntrustedError:
    return UntrustedError("it has no key of that name")


def _decode(token: str, keys: KeySet) -> jwt.Token:
    try:
        # Providers add headers of their own; those that they call critical are refused all the same.
        registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        return jwt.decode(token, keys, algorithms=ALGORITHMS, registry=registry)
    except InvalidKeyIdError:
        raise
    except Exception as error:  # whatever a hostile JWT makes a library raise, it means no
        raise UntrustedError(f"its signature does not hold ({type(error).__name__})") from error
