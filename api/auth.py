"""Who asks. One rule for now: open on loopback, elsewhere whoever holds the one token."""

import hmac

from fastapi import Request

from api.settings import Settings
from registry.errors import AuthenticationRequiredError
from storage.access import Caller

OPEN_CALLER = Caller("local")
TOKEN_CALLER = Caller("token")


def authenticate(request: Request, settings: Settings) -> Caller:
    """Return who sent the request.

    Raises:
        AuthenticationRequiredError: the service needs a token and this is not it.
    """
    if settings.token is None:
        return OPEN_CALLER
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    expected = settings.token.get_secret_value().encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected):
        raise AuthenticationRequiredError(
            "This service needs its token: send `Authorization: Bearer …`, or set WEIGHBRIDGE_TOKEN for the client."
        )
    return TOKEN_CALLER
