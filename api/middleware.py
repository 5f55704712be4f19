"""Around every request: its id, its log line, its figures, and what happens to an error that nobody named."""

import contextvars
import logging
import re
import secrets
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.direct import SEND_FILE
from api.errors import problem
from api.hiding import check_url
from api.measures import Measures
from registry.errors import InternalError, InvalidRequestError, PermissionDeniedError

_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_MAX_ADDRESS_LENGTH = 64
_MAX_PATH_LENGTH = 2_000
"""Of a path in the log, which it stands in twice."""
_SAFEGUARDS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"same-origin"),
]
"""What browsers are told of an answer that says nothing else: it is what it is called, and for no other site's page."""
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SERVER_ERROR = 500

current_request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("current_request_id", default=None)
"""The id of the request that is being answered here, for log lines."""

ACCESS_FIELDS = (
    "method", "path", "status", "received_bytes", "sent_bytes", "seconds", "client", "request_id",
)  # fmt: skip
"""Of a request, in its line of the log."""

access_log = logging.getLogger("weighbridge.access")
log = logging.getLogger("weighbridge.errors")


@dataclass(slots=True)
class _Seen:
    """What passed of one request."""

    status: int | None = None
    received_bytes: int = 0
    sent_bytes: int = 0


class RequestMiddleware:
    """Gives a request its id, counts and logs it, and answers for errors that have no name.

    Args:
        app: what answers.
        measures: what counts.
    """

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        if scope.get("client"):  # a proxy on this machine may have said any text
            scope["client"] = (scope["client"][0][:_MAX_ADDRESS_LENGTH], scope["client"][1])
        scope.setdefault("state", {})["request_id"] = request_id
        token = current_request_id.set(request_id)
        started, seen = time.perf_counter(), _Seen()
        self._measures.running += 1
        try:
            await self._answer(scope, receive, send, seen, request_id)
        finally:
            self._measures.running -= 1
            self._record(scope, seen, time.perf_counter() - started)
            current_request_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, seen: _Seen, request_id: str) -> None:
        async def receive_counted() -> Message:
            message = await receive()
            seen.received_bytes += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                own = {name.lower() for name, _ in message["headers"]}
                added = [each for each in _SAFEGUARDS if each[0] not in own]
                message["headers"] = [*message["headers"], *added, (b"x-request-id", request_id.encode())]
            seen.sent_bytes += message["count"] if message["type"] == SEND_FILE else len(message.get("body", b""))
            await send(message)

        try:
            check_url(scope)
        except InvalidRequestError as refused:
            await problem(refused, request_id)(scope, receive_counted, send_counted)
            return
        try:
            await self._app(scope, receive_counted, send_counted)
        except Exception:
            log.exception("A request failed for no reason that has a name")
            if seen.status is not None:
                return  # an answer that ends too early makes the server break the connection: the client notices
            error = InternalError("Something is wrong in the service. Its log tells more under this request id.")
            await problem(error, request_id)(scope, receive, send_counted)

    def _record(self, scope: Scope, seen: _Seen, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "unknown")
        self._measures.observe(method, route, seen.status, seconds)
        self._measures.count_bytes(seen.received_bytes, seen.sent_bytes)
        access_log.info(
            "%s %s",
            scope["method"],
            scope["path"][:_MAX_PATH_LENGTH],
            extra={
                "method": scope["method"],
                "path": scope["path"][:_MAX_PATH_LENGTH],
                "status": seen.status,
                "received_bytes": seen.received_bytes,
                "sent_bytes": seen.sent_bytes,
                "seconds": round(seconds, 4),
                "client": (scope.get("client") or [None])[0],
            },
        )


class OpenHostMiddleware:
    """Guards a service without a token from web pages: a browser on this machine must not be made to use it.

    Only known `Host` names are answered (so no foreign name can be pointed at loopback), and what a browser sends on
    behalf of another site may not change anything.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            refused = self._refusal(scope["method"], Headers(scope=scope))
            if refused is not None:
                await problem(PermissionDeniedError(refused), scope["state"].get("request_id"))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = ", ".join(headers.getlist("host"))
        if _without_port(host) not in self._hosts:
            return (
                f"This service is open to this machine only and does not answer as {host[:100]!r}. Use localhost, add "
                "the name to WEIGHBRIDGE_ALLOWED_HOSTS, or set a token."
            )
        site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
        foreign = site not in {"none", "same-origin"} or (origin is not None and urlsplit(origin).netloc != host)
        if method not in _SAFE_METHODS and foreign:
            return "A web page of another site may not change anything here."
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _request_id(scope: Scope) -> str:
    """Return the id that a proxy gave the request, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(given := value.decode("latin-1")):
            return given
    return secrets.token_hex(16)
