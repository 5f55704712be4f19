"""Around every request: its id, its log line, its figures, and what happens to an error that nobody named."""

import logging
import re
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem
from api.measures import Measures
from registry.errors import InternalError, PermissionDeniedError

_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

access_log = logging.getLogger("weighbridge.access")
log = logging.getLogger("weighbridge.errors")


class RequestMiddleware:
    """Gives a request its id, counts and logs it, and answers for errors that have no name."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        seen: dict[str, Any] = {"status": None, "bytes": 0}

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            elif message["type"] == "http.response.body":
                seen["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception:
            log.exception("A request failed for no reason that has a name", extra={"request_id": request_id})
            if seen["status"] is not None:
                raise  # the answer has begun: only a broken connection says that it is not whole
            error = InternalError("Something is wrong in the service. Its log tells more under this request id.")
            await problem(error, request_id)(scope, receive, observed)
        finally:
            self._record(scope, seen, time.perf_counter() - started, request_id)

    def _record(self, scope: Scope, seen: dict[str, Any], seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._measures.observe(scope["method"], route, seen["status"], seconds)
        access_log.info(
            "%s %s",
            scope["method"],
            scope["path"],
            extra={
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": seen["status"],
                "sent_bytes": seen["bytes"],
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
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            refused = self._refusal(scope["method"], headers)
            if refused is not None:
                await problem(PermissionDeniedError(refused), scope["state"].get("request_id"))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: dict[bytes, bytes]) -> str | None:
        host = headers.get(b"host", b"").decode("latin-1")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in self._hosts:
            return (
                f"This service is open to this machine only and does not answer as {host[:100]!r}. Use localhost, add "
                "the name to WEIGHBRIDGE_ALLOWED_HOSTS, or set a token."
            )
        site = headers.get(b"sec-fetch-site", b"none").decode("latin-1")
        if method not in _SAFE_METHODS and site not in {"none", "same-origin"}:
            return "A web page of another site may not change anything here."
        return None


def _request_id(scope: Scope) -> str:
    """Return the id that a proxy gave the request, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(given := value.decode("latin-1")):
            return given
    return secrets.token_hex(16)
