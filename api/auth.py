"""Who asks: whoever reaches an open service, the holder of a token, a job with a JWT, somebody who signed in."""

import hmac
import logging
import shlex
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from api.hiding import check_url
from api.limits import key_of, network_of
from api.oidc.untrusted import UntrustedError
from api.sender import address_of, request_id_of
from api.service import Service
from registry.errors import AuthenticationRequiredError
from storage.access import Caller
from storage.identities import accept_job, identify_job
from storage.tokens import identify, identify_at_once, note_failed_login

if TYPE_CHECKING:
    from api.oidc.issuer import Issuer
    from api.oidc.jobs import JobIssuers, VerifiedJob

_REFUSED_JWT = (
    "The service does not accept this JWT. Its administrator finds the reason in the log, under the id of this request."
)

log = logging.getLogger("weighbridge.tokens")


async def authenticate(request: Request, service: Service) -> Caller:
    """Return who sent the request.

    Raises:
        AuthenticationRequiredError: the service needs a token and got none that it knows.
        PermissionDeniedError: a browser sent it for another site.
        RateLimitedError: they asked for too much in a short time.
        IdentityProviderUnavailableError: who would vouch for a job does not answer.
    """
    try:
        caller = await _identify(request, service)
    except AuthenticationRequiredError as error:
        if service.provider is not None:
            error.extra["sign_in"] = service.provider.sign_in_url
        raise
    service.callers.count_request(key_of(caller))
    return caller


async def _identify(request: Request, service: Service) -> Caller:
    address, request_id = address_of(request), request_id_of(request)
    if service.settings.is_open:
        return Caller("local", is_administrator=True, address=address, request_id=request_id)
    given = _bearer(request) or _session(request, service)
    if given is None:
        service.callers.count_request(network_of(address))
        raise AuthenticationRequiredError(
            "This service needs a token: send `Authorization: Bearer …`, or run `weighbridge login` for the client."
        )
    expected = service.settings.token
    if expected is not None and hmac.compare_digest(given.encode(), expected.get_secret_value().encode()):
        check_url(request.scope, given)  # for nobody else, or answers would tell who guesses right
        return Caller("token", is_administrator=True, address=address, request_id=request_id)
    at_once = identify_at_once(service.stores, given, address, request_id)
    if at_once is not None:
        return at_once
    try:
        if service.jobs is not None and given.count(".") == 2:  # noqa: PLR2004 - header, claims, signature
            return await _identify_job(service, service.jobs, given, address, request_id)
        return await run_in_threadpool(identify, service.stores, given, address, request_id)
    except AuthenticationRequiredError:
        await count_failed_login(service, given, address, request_id)
        raise


async def count_failed_login(service: Service, given: str, address: str | None, request_id: str | None) -> None:
    """Count somebody who was not let in, and tell the audit now and then.

    Raises:
        RateLimitedError: there were too many of their address.
    """
    left_out = service.callers.failed_logins.note(address)
    if left_out is not None:
        await run_in_threadpool(note_failed_login, service.stores, given, address, request_id, left_out)
    service.callers.failed_logins.check(address)


async def _identify_job(
    service: Service, jobs: "JobIssuers", jwt: str, address: str | None, request_id: str | None
) -> Caller:
    """Return who sent a JWT: by the row of one that was accepted before, else by what its issuer signed."""
    issuer = jobs.find(jwt)
    if issuer is None:
        log.info("A JWT was refused: it is malformed, too long, or of no issuer in WEIGHBRIDGE_JOB_ISSUERS")
        raise AuthenticationRequiredError(_REFUSED_JWT)
    known = await run_in_threadpool(identify_job, service.stores, jwt, address, request_id)
    if known is not None:
        return known
    with service.callers.new_jwts.one(address):
        verified = await _verify_job(service, jobs, issuer, jwt)
        word, ends = verified.word, verified.expires_at
        caller = await run_in_threadpool(accept_job, service.stores, jwt, word, ends, address, request_id)
        if caller is None:
            log.info(
                "A JWT was refused: its subject is bound to no user who may come in. To bind it: weighbridge user "
                "trust NAME --issuer %s --subject %s --scope read",
                shlex.quote(word.issuer),
                shlex.quote(word.subject),
            )
            raise AuthenticationRequiredError(_REFUSED_JWT)
    return caller


async def _verify_job(service: Service, jobs: "JobIssuers", issuer: "Issuer", jwt: str) -> "VerifiedJob":
    """Return what an issuer signed; only those for whom its keys must be fetched wait for it."""
    try:
        verified = await run_in_threadpool(jobs.verify_at_once, issuer, jwt)
        if verified is None:
            verified = await service.in_job_keys(issuer.url, jobs.verify, issuer, jwt)
    except UntrustedError as error:
        log.info("A JWT of %s was refused: %s", issuer.url, error)
        raise AuthenticationRequiredError(_REFUSED_JWT) from error
    return verified


def _bearer(request: Request) -> str | None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" and given.strip() else None


def _session(request: Request, service: Service) -> str | None:
    """Return the session of a browser; whoever sends any `Authorization` means that, and no cookie."""
    if service.provider is None or "authorization" in request.headers:
        return None
    session = service.provider.cookies.session(request)
    if session is not None:
        service.provider.cookies.require_same_origin(request)
    return session
