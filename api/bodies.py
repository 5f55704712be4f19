"""JSON bodies of a bounded size. FastAPI reads a whole body before it looks at it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from api.deps import get_caller
from api.receive import iter_body
from registry.errors import IncompleteUploadError, RequestTimeoutError, TooLargeError

MAX_SLOWNESS = 5
"""How often `idle_seconds` a whole JSON body may take, however steadily it trickles."""


class BoundedRoute(APIRoute):
    """A route that refuses a body of more than `max_metadata_bytes` instead of reading it.

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

            async def receive() -> Message:
                nonlocal body
                if body is None:
                    return await request.receive()
                whole, body = body, None
                return {"type": "http.request", "body": whole, "more_body": False}

            return await handle(Request(request.scope, receive))

        return handle_bounded


async def _read(request: Request, idle_seconds: float, max_bytes: int) -> bytes | None:
    body = bytearray()
    try:
        async with asyncio.timeout(MAX_SLOWNESS * idle_seconds):
            async for data in iter_body(request, idle_seconds):
                body += data
                if len(body) > max_bytes:
                    raise TooLargeError(f"A JSON body has at most {max_bytes} bytes here.")
    except (IncompleteUploadError, TimeoutError) as error:
        raise RequestTimeoutError("The rest of the JSON body did not come in time. Send it again.") from error
    return bytes(body)
