"""Bodies past the parser: received straight into buffers, and sent straight out of files.

An application that knows how uses two extensions of ASGI, where `scope["extensions"]` has them:

- `weighbridge.receive_into`: a function that takes a buffer. The `body` of the next message may then be a view of the
  buffer's beginning instead of bytes; for the message behind it another buffer is offered, or the rest of this one.
- `http.response.zerocopysend`: a piece of a file as a piece of the answer, as the specification of ASGI has it.
"""

import asyncio
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.file_sending import can_send_files, send_file

if TYPE_CHECKING:
    from api.connection import PatientProtocol

RECEIVE_INTO = "weighbridge.receive_into"
SEND_FILE = "http.response.zerocopysend"
_SCRATCH_BYTES = 64 << 10


class DirectApp:
    """The application behind a connection, which gets both extensions for the request that was read last.

    Args:
        protocol: of the connection.
        app: what answers.
    """

    def __init__(self, protocol: "PatientProtocol", app: ASGIApp) -> None:
        self._protocol = protocol
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        protocol, cycle = self._protocol, self._protocol.cycle
        if cycle.scope is not scope:  # whoever does not wait for answers has sent another request since
            await self._app(scope, receive, send)
            return
        body = protocol.direct_body
        extensions = scope.setdefault("extensions", {})
        if body is not None:
            extensions[RECEIVE_INTO] = body.offer

        async def receive_body() -> Message:
            if body is not None and body.is_wanted:
                return await body.receive()
            return await receive()

        async def send_body(message: Message) -> None:
            if message["type"] != SEND_FILE:
                await send(message)
                return
            if message["count"] > cycle.expected_content_length:
                raise RuntimeError("a piece of a file is longer than what was announced of the answer")
            cycle.expected_content_length -= message["count"]
            await send_file(protocol, message["file"], message["offset"], message["count"])
            if not message.get("more_body", False):
                await send({"type": "http.response.body", "body": b""})

        if can_send_files(protocol.transport) and scope["method"] == "GET":
            extensions[SEND_FILE] = {}
        await self._app(scope, receive_body, send_body)


class DirectBody(asyncio.BufferedProtocol):
    """The body of a request, of a known length, that goes into the buffers of whoever takes it.

    From the first buffer on it stands between the transport and the connection's protocol: what comes is not parsed.
    For one thread, that of the event loop.

    Args:
        protocol: of the connection, at the request that has the body. It gets whatever comes behind the body.
        length: of the body, in bytes.
    """

    def __init__(self, protocol: "PatientProtocol", length: int) -> None:
        self._protocol = protocol
        self._cycle = protocol.cycle
        self._left = length
        self._view: memoryview | None = None
        self._filled = 0
        self._is_between = False
        self._is_refused = False
        self._came = asyncio.Event()

    @property
    def is_wanted(self) -> bool:
        """Whether there is a buffer for what comes next of the body."""
        return self._view is not None

    def offer(self, buffer: memoryview) -> None:
        """Take a buffer that the next bytes may go into, if there are any."""
        is_over = not self._left and not self._cycle.body
        self._view, self._filled = None if is_over else buffer, 0

    def count_parsed(self, size: int) -> None:
        """Note that bytes of the body went through the parser."""
        self._left -= size

    async def receive(self) -> Message:
        """Return the message for what came into the buffer: one byte of it or more."""
        protocol, cycle, view = self._protocol, self._cycle, self._view
        if cycle.body and view is not None:
            return self._take_parsed(cycle.body, view)
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._step_between()
        protocol.flow.resume_reading()
        try:
            while not self._filled and not cycle.disconnected and not cycle.response_complete:
                self._came.clear()
                await self._came.wait()
        finally:
            protocol.flow.pause_reading()
            self._view = None
        if view is None or not self._filled:
            return {"type": "http.disconnect"}
        if not self._left:
            self._step_aside()
        return {"type": "http.request", "body": view[: self._filled], "more_body": bool(self._left)}

    def refuse(self) -> None:
        """Throw away what still comes past the parser: the request was answered without it."""
        self._view = None
        if self._is_between:
            self._is_refused = True
            self._came.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go, with no room for any behind the body."""
        del sizehint
        if self._is_refused:
            return memoryview(bytearray(min(_SCRATCH_BYTES, self._left)))
        if self._view is None:
            raise RuntimeError("bytes of a body came that nobody asked for")
        return self._view[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Note that bytes came."""
        self._left -= nbytes
        self._filled += nbytes
        if self._is_refused:
            self._protocol.expect_rest()
        if not self._left or (self._view is not None and self._filled == len(self._view)):
            self._protocol.flow.pause_reading()
        if not self._left and self._is_refused:
            self._protocol.loop.call_soon(self._step_aside)
        self._came.set()

    def eof_received(self) -> None:
        """Pass on that the client sends nothing more."""
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the connection is gone."""
        self._protocol.connection_lost(exc)
        self._came.set()

    def pause_writing(self) -> None:
        """Pass on that the reader takes nothing."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the reader has taken it."""
        self._protocol.resume_writing()

    def _take_parsed(self, parsed: bytearray, view: memoryview) -> Message:
        """Return the message for what came with the head, and so through the parser."""
        size = min(len(parsed), len(view))
        view[:size] = parsed[:size]
        rest = self._cycle.body = parsed[size:]
        if not rest:
            self._cycle.message_event.clear()
        self._view = None
        return {"type": "http.request", "body": view[:size], "more_body": bool(self._left or rest)}

    def _step_between(self) -> None:
        if not self._is_between and not self._protocol.transport.is_closing():
            self._is_between = True
            self._protocol.flow.pause_reading()  # what reads now is told once, when it begins, whom it reads for
            self._protocol.transport.set_protocol(self)

    def _step_aside(self) -> None:
        """Give the connection back to its protocol: the body is over."""
        if self._is_between and not self._protocol.transport.is_closing():
            self._is_between = False
            self._protocol.transport.set_protocol(self._protocol)
            self._protocol.end_body()
            self._protocol.flow.resume_reading()
