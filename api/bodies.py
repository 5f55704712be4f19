"""JSON bodies of a bounded size. FastAPI reads a whole body before it looks at it."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from api.receive import iter_body
from api.settings import Settings
from registry.errors import TooLargeError


class BoundedRoute(APIRoute):
    """A route that refuses a body of more than `max_metadata_bytes` instead of reading it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, around that of FastAPI."""
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            settings: Settings = request.app.state.settings
            body = await _read(request, settings)

            async def receive() -> Message:
                nonlocal body
                if body is None:
                    return await request.receive()
                whole, body = body, None
                return {"type": "http.request", "body": whole, "more_body": False}

            return await handle(Request(request.scope, receive))

        return handle_bounded


async def _read(request: Request, settings: Settings) -> bytes | None:
    body = bytearray()
    async for data in iter_body(request, settings.idle_seconds):
        body += data
        if len(body) > settings.max_metadata_bytes:
            raise TooLargeError(f"A JSON body has at most {settings.max_metadata_bytes} bytes here.")
    return bytes(body)
