"""Who asks: whoever reaches an open service, the holder of the installation's token, or of one of their own."""

import hmac

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from api.limits import key_of, network_of
from api.service import Service
from registry.errors import AuthenticationRequiredError
from storage.access import Caller
from storage.tokens import identify, note_failed_login


async def authenticate(request: Request, service: Service) -> Caller:
    """Return who sent the request.

    Raises:
        AuthenticationRequiredError: the service needs a token and got none that it knows.
        RateLimitedError: they asked for too much in a short time.
    """
    caller = await _identify(request, service)
    service.callers.count_request(key_of(caller))
    return caller


async def _identify(request: Request, service: Service) -> Caller:
    address = request.client.host if request.client else None
    request_id: str | None = request.scope.get("state", {}).get("request_id")
    if service.settings.is_open:
        return Caller("local", is_administrator=True, address=address, request_id=request_id)
    given = _bearer(request)
    if given is None:
        service.callers.count_request(network_of(address))
        raise AuthenticationRequiredError(
            "This service needs a token: send `Authorization: Bearer …`, or run `weighbridge login` for the client."
        )
    expected = service.settings.token
    if expected is not None and hmac.compare_digest(given.encode(), expected.get_secret_value().encode()):
        return Caller("token", is_administrator=True, address=address, request_id=request_id)
    try:
        return await run_in_threadpool(identify, service.stores, given, address, request_id)
    except AuthenticationRequiredError:
        left_out = service.callers.failed_logins.note(address)
        if left_out is not None:
            await run_in_threadpool(note_failed_login, service.stores, given, address, request_id, left_out)
        service.callers.failed_logins.check(address)
        raise


def _bearer(request: Request) -> str | None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" and given.strip() else None
