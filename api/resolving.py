"""The question that is asked most, which version a word means: answered before the app where it can be."""

from functools import partial

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api.deps import MAX_SELECTOR_LENGTH, get_caller, get_service
from api.errors import answer_named
from api.routes.versions import router
from registry.errors import WeighbridgeError
from storage.metadata.resolving import Told
from storage.read import find_told

_VERSIONS = "versions"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_ROUTE = next(each for each in router.routes if isinstance(each, APIRoute) and each.operation_id == "get_version")


class ResolvingMiddleware:
    """Answers `GET …/versions/{version}` about a live version that was told lately, past routing and documents.

    It asks for the caller and for what they may read as the app does, at each request, and its answer is the app's byte
    for byte. Whatever is asked in other words, or comes to nothing here, goes on to the app.

    Args:
        app: what answers everything else.
        prefix: of the routes of models.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._models = f"{prefix}/models/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        named = self._find_named(scope)
        if named is None or not await _answer(scope, receive, send, *named):
            await self._app(scope, receive, send)

    def _find_named(self, scope: Scope) -> tuple[str, str, str] | None:
        """Return team, model and selector of a request that asks for them alone and brings no body."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"] or scope.get("root_path"):
            return None
        path: str = scope["path"]
        words = path.removeprefix(self._models).split("/") if path.startswith(self._models) else []
        if len(words) != 4 or words[2] != _VERSIONS or not all(words) or len(words[3]) > MAX_SELECTOR_LENGTH:  # noqa: PLR2004 - team, model, `versions`, selector
            return None
        if any(name in _FRAMING for name, _ in scope["headers"]):
            return None
        return words[0], words[1], words[3]


async def _answer(scope: Scope, receive: Receive, send: Send, team: str, model: str, selector: str) -> bool:  # noqa: PLR0917 - a version is named by three words
    """Answer, or return False where only the app can."""
    request = Request(scope)
    scope["route"] = _ROUTE  # for the figures
    try:
        service = await get_service(request)
        caller = await get_caller(request, service)
        at_once = service.stores.catalog.answers_at_once
        find = partial(find_told, service.stores, caller, team, model, selector, at_once=at_once)
        told = find() if at_once else await run_in_threadpool(find)
    except WeighbridgeError as error:
        await answer_named(request, error)(scope, receive, send)
        return True
    if told is not None:
        await _tell(told, send)
    return told is not None


async def _tell(told: Told, send: Send) -> None:
    headers = [
        (b"content-length", str(len(told.document)).encode()),
        (b"content-type", b"application/json"),
        (b"etag", f'"{told.info.annotations.revision}"'.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told.document})
