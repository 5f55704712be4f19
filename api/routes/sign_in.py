"""Signing in and out with a browser, by way of the identity provider: pages for people, outside of the API."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from api.auth import count_failed_login
from api.bodies import BoundedRoute
from api.deps import CallerDep, ServiceDep, StoresDep, get_caller
from api.errors import headers_of, status_of
from api.limits import network_of
from api.needs import needs
from api.oidc import pages
from api.oidc.cookies import check_next
from api.oidc.places import DONE, SIGN_IN
from api.responses import problems
from api.sender import address_of, request_id_of
from api.service import Service
from registry.errors import AccessError, NotFoundError, WeighbridgeError
from storage import identities
from storage.access import Caller

if TYPE_CHECKING:
    from api.oidc.provider import Provider

browsers = APIRouter(prefix="/sign-in", include_in_schema=False)
"""For people who may not be known yet. What is here and needs somebody known says so itself."""
router = APIRouter(tags=["tokens"], route_class=BoundedRoute)
_SEE_OTHER = 303

Page = Callable[..., Awaitable[Response]]


def for_people(page: Page) -> Page:
    """Answer a failure by a page, and let no browser keep any of it."""

    @wraps(page)
    async def answer(request: Request, *args: object, **kwargs: object) -> Response:
        try:
            response = await page(request, *args, **kwargs)
        except WeighbridgeError as error:
            status = status_of(type(error))
            response = pages.failed(error.title, error.detail, request_id_of(request), status)
            response.headers.update(headers_of(error, status))
        response.headers["Cache-Control"] = "no-store"
        return response

    return answer


@browsers.get("")
@for_people
async def begin(request: Request, service: ServiceDep, next: Annotated[str, Query()] = "") -> Response:  # noqa: A002 - the name in the address
    """Send a browser to the identity provider."""
    provider = _provider(service)
    service.callers.count_request(network_of(address_of(request)))
    url, attempt = await service.in_sign_in(provider.begin, check_next(next))
    response = RedirectResponse(url, _SEE_OTHER)
    provider.cookies.set_attempt(response, attempt)
    return response


@browsers.get("/callback")
@for_people
async def finish(request: Request, service: ServiceDep) -> Response:
    """Begin the session of whoever the identity provider has signed in."""
    provider = _provider(service)
    attempt = provider.cookies.attempt(request)
    address, request_id = address_of(request), request_id_of(request)
    service.callers.count_request(network_of(address))
    lifetime = timedelta(hours=service.settings.session_hours)
    try:
        with service.callers.sign_ins.one(address):
            arrival = await service.in_sign_in(provider.finish, dict(request.query_params), attempt)
            session = await run_in_threadpool(
                identities.sign_in, service.stores, arrival, lifetime, address, request_id
            )
    except AccessError:
        await count_failed_login(service, "", address, request_id)
        raise
    response = RedirectResponse((attempt and check_next(attempt.next)) or DONE, _SEE_OTHER)
    provider.cookies.forget_attempt(response)
    provider.cookies.set_session(response, session.token, int(lifetime.total_seconds()))
    return response


@browsers.get("/done")
@for_people
async def done(request: Request, service: ServiceDep) -> Response:
    """Say who has signed in."""
    provider = _provider(service)
    if provider.cookies.session(request) is None and "authorization" not in request.headers:
        return RedirectResponse(SIGN_IN, _SEE_OTHER)
    caller = await get_caller(request, service)
    return pages.signed_in(caller.name, _may(caller), provider.public_url, service.settings.login_token_days)


@browsers.post("/token")
@for_people
async def make_token(request: Request, service: ServiceDep) -> Response:
    """Make a token for the command line of whoever has signed in, and tell it this once."""
    caller, provider = await get_caller(request, service), _provider(service)
    days = service.settings.login_token_days
    made = await run_in_threadpool(identities.create_lasting_token, service.stores, caller, days)
    return pages.new_token(made.token, provider.public_url, days)


@router.post("/sign-out", status_code=204, operation_id="sign_out", responses=problems(409), **needs(None))
def sign_out(request: Request, service: ServiceDep, stores: StoresDep, caller: CallerDep) -> Response:
    """End the session that the browser signed in for."""
    identities.sign_out(stores, caller)
    wants_page = "text/html" in request.headers.get("accept", "")
    response = pages.signed_out() if wants_page else Response(status_code=204)
    if service.provider is not None:
        service.provider.cookies.forget_session(response)
    return response


def _provider(service: Service) -> "Provider":
    if service.provider is None:
        raise NotFoundError(
            "This service has no single sign-on: come with a token. An administrator turns it on by "
            "WEIGHBRIDGE_OIDC_ISSUER."
        )
    return service.provider


def _may(caller: Caller) -> str:
    if caller.is_administrator:
        return "You administer this installation."
    if not caller.roles:
        return "You are in no team yet. An admin of one adds you: weighbridge team add TEAM YOU --role ROLE."
    return "You are " + ", ".join(f"{role} of {team}" for team, role in sorted(caller.roles.items())) + "."
