"""JSON bodies of a bounded size that mean one thing only. FastAPI reads a whole body before it looks at it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message

from api.deps import get_caller
from api.receive import iter_body
from registry.errors import IncompleteUploadError, MalformedArtifactError, RequestTimeoutError, TooLargeError
from registry.formats.bounded_json import parse_json
from registry.formats.limits import DEFAULT_LIMITS

MAX_SLOWNESS = 5
"""How often `idle_seconds` a whole JSON body may take, however steadily it trickles."""


class BoundedRoute(APIRoute):
    """A route that refuses a body of more than `max_metadata_bytes` instead of reading it, and JSON of two meanings.

    Attributes:
        max_bytes: another bound, for routes whose bodies are no metadata.
    """

    max_bytes: ClassVar[int | None] = None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, around that of FastAPI."""
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            await get_caller(request, request.app.state.service)  # nobody's body is read before it is known whose
            settings = request.app.state.settings
            body = await _read(request, settings.idle_seconds, self.max_bytes or settings.max_metadata_bytes)

            return await handle(_Received(request.scope, _receive_first(body, request)))

        return handle_bounded


class _Received(Request):
    """A request whose body is there."""

    async def json(self) -> Any:
        """Return what the body says.

        Raises:
            JSONDecodeError: it is no JSON, or parsers would disagree about what it says: it repeats a key, holds NaN,
                lone surrogates, an integer of more than 20 digits, or is nested more than 64 deep.
        """
        try:
            return parse_json(await self.body(), DEFAULT_LIMITS, "the body")
        except MalformedArtifactError as error:
            raise json.JSONDecodeError(error.detail, "", 0) from error  # the one error that FastAPI lets through


def _receive_first(body: bytes, request: Request) -> Callable[[], Awaitable[Message]]:
    """Return what gives a body that was read, and then what else comes."""
    waiting = [body]

    async def receive() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await request.receive()

    return receive


async def _read(request: Request, idle_seconds: float, max_bytes: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(MAX_SLOWNESS * idle_seconds):
            async for data in iter_body(request, idle_seconds):
                body += data
                if len(body) > max_bytes:
                    raise TooLargeError(f"A JSON body has at most {max_bytes} bytes here.")
    except (IncompleteUploadError, TimeoutError, ClientDisconnect) as error:
        raise RequestTimeoutError("The rest of the JSON body did not come in time. Send it again.") from error
    return bytes(body)
