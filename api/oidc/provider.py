"""Signing people in by an OpenID Connect provider: authorization code with PKCE, spoken by Authlib."""

import logging
import re
import secrets
from collections.abc import Mapping
from typing import Any, cast

from authlib.common.errors import AuthlibBaseError
from authlib.oauth2.client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from api.oidc.cookies import Attempt, Cookies
from api.oidc.fetching import Session, fetch_json, require_safe_url
from api.oidc.groups import GroupRules, groups_in
from api.oidc.issuer import LEEWAY_SECONDS, Issuer, check_subject
from api.oidc.places import CALLBACK, SIGN_IN
from api.oidc.untrusted import UntrustedError
from api.settings import Settings
from registry.errors import AuthenticationRequiredError, InvalidNameError
from registry.names import check_user
from storage.metadata.records import Arrival, Word

_FAILED = (
    "The sign-in could not be finished. Begin it again; if that does not help, an administrator finds why in the log."
)

log = logging.getLogger("weighbridge.oidc")


class Provider:
    """Who signs people in, and what becomes of them here.

    Args:
        settings: of the installation.
        public_url: where browsers reach the service.
        rules: what groups give.

    Attributes:
        cookies: of browsers that sign in here, and of people who did.
    """

    def __init__(self, settings: Settings, public_url: str, rules: GroupRules) -> None:
        self.public_url = public_url
        self.cookies = Cookies(public_url)
        self._settings = settings
        self._rules = rules
        self._issuer = Issuer(settings.oidc_issuer or "", "WEIGHBRIDGE_OIDC_ISSUER")

    @property
    def sign_in_url(self) -> str:
        """Where people sign in."""
        return self.public_url + SIGN_IN

    def begin(self, next_path: str) -> tuple[str, Attempt]:
        """Return where a browser goes to sign in, and what it must bring back.

        Raises:
            IdentityProviderUnavailableError: the provider does not answer as it should.
        """
        state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        attempt = Attempt(state, nonce, verifier, next_path)
        url, _ = self._client().create_authorization_url(
            self._endpoint("authorization_endpoint"),
            state=attempt.state,
            nonce=attempt.nonce,
            code_verifier=attempt.verifier,
        )
        return url, attempt

    def finish(self, answer: Mapping[str, str], attempt: Attempt | None) -> Arrival:
        """Return who has signed in.

        Args:
            answer: the query that the browser came back with.
            attempt: what it kept since it went.

        Raises:
            AuthenticationRequiredError: it does not belong together, or the provider signed nobody in.
            IdentityProviderUnavailableError: the provider does not answer as it should.
        """
        if attempt is None or not secrets.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise AuthenticationRequiredError(
                "This answer belongs to no sign-in that this browser began in the last 10 minutes. Begin it again."
            )
        if answer.get("iss", self._issuer.url) != self._issuer.url:  # RFC 9207
            raise AuthenticationRequiredError(_FAILED)
        if "code" not in answer:
            log.info("The provider signed nobody in: %r", answer.get("error", "no reason")[:200])
            raise AuthenticationRequiredError("The identity provider did not sign you in. Begin it again.")
        try:
            return self._arrival(self._exchange(answer["code"], attempt))
        except (AuthlibBaseError, JoseError, ValueError, TypeError, UntrustedError) as error:
            log.warning("A sign-in failed: %s: %s", type(error).__name__, str(error)[:300])
            raise AuthenticationRequiredError(_FAILED) from error

    def _exchange(self, code: str, attempt: Attempt) -> dict[str, Any]:
        """Return the claims that the provider gives for a code."""
        granted: dict[str, Any] = self._client().fetch_token(
            self._endpoint("token_endpoint"),
            grant_type="authorization_code",
            code=code,
            code_verifier=attempt.verifier,
        )
        token = self._issuer.verify(str(granted.get("id_token", "")))
        options: Any = {
            "iss": {"essential": True, "value": self._issuer.url},
            "aud": {"essential": True, "value": self._settings.oidc_client_id},
        }
        params = {"nonce": attempt.nonce, "client_id": self._settings.oidc_client_id}
        checked: Any = CodeIDToken(token.claims, token.header, options, params)
        checked.validate(leeway=LEEWAY_SECONDS)
        return self._completed(dict(token.claims), granted.get("access_token"))

    def _completed(self, claims: dict[str, Any], access_token: Any) -> dict[str, Any]:
        """Return the claims of an ID token, with those that the provider tells by `userinfo` alone."""
        wanted = {self._settings.oidc_user_claim, *([self._settings.oidc_groups_claim] if self._rules else [])}
        address = self._issuer.description().get("userinfo_endpoint")
        if not (wanted - claims.keys() and address is not None and access_token):
            return claims
        headers = {"Authorization": f"Bearer {access_token}"}
        more = fetch_json(require_safe_url(address, "The provider's `userinfo_endpoint`"), headers)
        if more.get("sub") != claims["sub"]:
            raise ValueError("`userinfo` is about somebody else")
        return more | claims

    def _arrival(self, claims: Mapping[str, Any]) -> Arrival:
        if self._rules and self._settings.oidc_groups_claim not in claims:
            log.warning("The provider tells no %r, so nobody gets a role by it", self._settings.oidc_groups_claim)
        given = self._rules.apply(groups_in(claims, self._settings.oidc_groups_claim))
        name, refusal = None, None
        wanted = self._settings.oidc_new_users
        if wanted == "nobody" or (wanted == "groups" and not given.is_member):
            refusal = (
                "You are no user here, and signing in makes nobody one who is in no group that this service knows."
            )
        else:
            name, refusal = user_name(claims, self._settings.oidc_user_claim)
        word = Word(self._issuer.url, check_subject(claims["sub"]))
        return Arrival(word, name, refusal, given.roles, given.is_administrator)

    def _client(self) -> Any:
        """Return Authlib's client for one request; it keeps what it was told last, so none is shared."""
        secret = self._settings.oidc_client_secret
        methods = self._issuer.description().get("token_endpoint_auth_methods_supported")
        # A secret in a form needs no escaping that one side may forget. Where it is not offered, all have Basic.
        by_form = isinstance(methods, list) and "client_secret_post" in cast("list[Any]", methods)
        return OAuth2Client(
            Session(),
            client_id=self._settings.oidc_client_id,
            client_secret=secret and secret.get_secret_value(),
            token_endpoint_auth_method="client_secret_post" if secret and by_form else None,
            scope=self._settings.oidc_scopes,
            redirect_uri=self.public_url + CALLBACK,
            code_challenge_method="S256",
        )

    def _endpoint(self, name: str) -> str:
        return require_safe_url(self._issuer.description().get(name), f"The provider's `{name}`")


def user_name(claims: Mapping[str, Any], claim: str) -> tuple[str | None, str | None]:
    """Return the name of the user that somebody new becomes; else None and why there is none."""
    value = claims.get(claim)
    if not isinstance(value, str) or not value.strip():
        return None, f"The identity provider tells no `{claim}` of you, by which you would be named here."
    if claim == "email" and claims.get("email_verified") is False:
        return None, "The identity provider has not verified your email address, by which you would be named here."
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", value.strip().partition("@")[0]).strip("-.")
    try:
        return check_user(name or value), None
    except InvalidNameError:
        return None, f"The identity provider calls you {value[:100]!r}, which is no name that users have here."
