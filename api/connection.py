"""One connection: a head that does not come and an answer that nobody reads end it, and so does an endless head."""

import asyncio
import logging
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.direct import DirectApp, DirectBody
from api.errors import problem
from registry.errors import TooLargeError

MAX_HEAD_BYTES = 64 << 10
"""Of a request's line and headers together; of what stands between two pieces of a chunked body, or behind it, too."""
_HEAD_TOO_LARGE = 431

log = logging.getLogger("weighbridge.connection")


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for ever for a request's head, and for a reader that takes no bytes.

    Both may take as long as an idle connection is kept (`timeout_keep_alive`): a head from the connection's start, or
    from its own first byte, to its end; a reader from one byte to the next; and whoever still sends a body that was
    refused, likewise. A head has an end in bytes, too: the parser of uvicorn takes any number, in quadratic time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_is_due: asyncio.TimerHandle | None = None
        self._reader_is_due: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._head_bytes = 0
        self._is_refused = False
        self.direct_body: DirectBody | None = None
        self.app = DirectApp(self, self.app)

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn's own
        """Wait for the first head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that whatever is not taken is noticed
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head or a body, of a head never more than one may have."""
        while data and not self._is_refused and not self.transport.is_closing():
            size = len(data) if self._is_in_body() else MAX_HEAD_BYTES - self._head_bytes
            self._take(data[:size])
            data = data[size:]
        if self._is_answering() or self._was_refused():
            self._forget_head()
        if not self._is_answering():
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Take a head, unless it offers another protocol *and* brings a body, which the parser then takes for a head.

        Raises:
            ValueError: it does; uvicorn answers 400 and closes.
        """
        framing = {name: value for name, value in self.headers if name in {b"content-length", b"transfer-encoding"}}
        offers = self.parser.should_upgrade()
        if offers and framing and framing != {b"content-length": b"0"}:
            raise ValueError("a body and an offer of another protocol")
        length = int(framing.get(b"content-length", b"0")) if len(framing) == 1 else 0
        super().on_headers_complete()
        self.direct_body = DirectBody(self, length) if length else None
        if self.direct_body is not None:
            self.flow.pause_reading()  # until somebody takes the body, what comes of it waits in the kernel

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: other protocols are left out on purpose."""

    def on_body(self, body: bytes) -> None:
        """Take bytes of a body."""
        self._head_bytes = 0
        if self.direct_body is not None:
            self.direct_body.count_parsed(len(body))
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Go on to the next request; what is left of a body that was refused is thrown away."""
        if self.direct_body is not None:
            self.direct_body.refuse()
        super().on_response_complete()

    def end_body(self) -> None:
        """Read heads again, after a body that did not go through the parser."""
        self.parser = httptools.HttpRequestParser(self)
        self._head_bytes = 0
        self.cycle.more_body = False

    def expect_rest(self) -> None:
        """Wait for the rest of a body that was refused, or the next head, from now on."""
        self._unset_keepalive_if_required()
        self._forget_head()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._forget_head()
        self._forget_reader()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait until the reader has taken what is on its way."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """Go on: the reader has taken it."""
        self._forget_reader()
        super().resume_writing()

    def _take(self, piece: bytes) -> None:
        before = self.cycle
        self._head_bytes += len(piece)
        super().data_received(piece)
        if self.cycle is not before:
            self._head_bytes = 0
        if self._head_bytes >= MAX_HEAD_BYTES:
            self._refuse()

    def _refuse(self) -> None:
        """Say that the head is too large, where nothing else is being said, and take nothing more."""
        log.warning("A request's head was refused: it has %s bytes or more", MAX_HEAD_BYTES)
        self._is_refused = True
        if self._is_answering():
            self.transport.close()
            return
        answer = problem(
            TooLargeError(f"A request's head has less than {MAX_HEAD_BYTES} bytes."), None, _HEAD_TOO_LARGE
        )
        lines = [b"HTTP/1.1 431 Request Header Fields Too Large", b"connection: close"]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        self.transport.write_eof()  # what still comes is taken, so that the answer is read; the timer ends it

    def _is_in_body(self) -> bool:
        return bool(self.cycle) and self.cycle.more_body

    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _was_refused(self) -> bool:
        return bool(self.cycle) and self.cycle.response_complete and self.cycle.more_body

    def _expect_head(self) -> None:
        if self._head_is_due is None:
            self._head_is_due = self.loop.call_later(self.timeout_keep_alive, self._give_up_head)

    def _forget_head(self) -> None:
        if self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None

    def _give_up_head(self) -> None:
        self._head_is_due = None
        if not self._is_answering() and not self.transport.is_closing():
            self.transport.close()

    def _expect_reader(self) -> None:
        self._unread_bytes = _count_unread(self.transport)
        self._reader_is_due = self.loop.call_later(self.timeout_keep_alive, self._give_up_reader)

    def _forget_reader(self) -> None:
        if self._reader_is_due is not None:
            self._reader_is_due.cancel()
            self._reader_is_due = None

    def _give_up_reader(self) -> None:
        if _count_unread(self.transport) < self._unread_bytes:
            self._expect_reader()
            return
        # Closing would wait for the reader, and the kernel would go on offering them what it holds.
        connection: socket.socket | None = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def _count_unread(transport: asyncio.Transport) -> int:
    """Return how many bytes of an answer the reader's machine has not taken: ours, and where it says so the kernel's.

    The kernel holds megabytes, and takes more from us only when a third of them is gone; a slow reader is no stalled
    one.
    """
    connection: socket.socket | None = transport.get_extra_info("socket")
    held = bytes(4)
    if connection is not None:
        with suppress(ImportError, OSError):
            import fcntl
            import termios

            held = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, held)
    return transport.get_write_buffer_size() + int.from_bytes(held, sys.byteorder)
