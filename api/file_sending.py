"""Sending out of files: the kernel copies, in threads that wait for no slow reader."""

import asyncio
import os
import select
from typing import TYPE_CHECKING

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

if TYPE_CHECKING:
    import socket

    from api.connection import PatientProtocol

_HANDED_OVER_BYTES = 64 << 10
"""To the transport, when the kernel takes no more: once these are gone, it takes more."""
_PATIENCE_MILLISECONDS = 2
"""How long a thread waits for a reader itself: one who is fast has taken enough before others could tell the thread."""
_SENDERS = CapacityLimiter(32)


def can_send_files(transport: asyncio.Transport) -> bool:
    """Return whether a connection takes bytes out of files: it is not encrypted here, and the system can."""
    return hasattr(os, "sendfile") and transport.get_extra_info("sslcontext") is None


async def send_file(protocol: "PatientProtocol", descriptor: int, offset: int, count: int) -> None:
    """Send bytes of a file behind all that was sent before.

    Raises:
        ConnectionError: the connection is gone.
        OSError: the file cannot be read, or ends too early.
    """
    transport = protocol.transport
    connection: socket.socket | None = transport.get_extra_info("socket")
    await protocol.flow.drain()
    while count:
        if connection is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        # The transport may close its own while a thread uses this one, and the number may then be another's.
        line = os.dup(connection.fileno())
        try:
            sent, following = await run_sync(_send_some, line, descriptor, offset, count, limiter=_SENDERS)
        finally:
            os.close(line)
        offset, count = offset + sent + len(following), count - sent - len(following)
        if following and not transport.is_closing():
            transport.write(following)
            await protocol.flow.drain()


def _send_some(line: int, descriptor: int, offset: int, count: int) -> tuple[int, bytes]:
    """Return how many bytes the kernel took, and those behind them when it would take no more."""
    sent = 0
    while sent < count:
        try:
            passed = os.sendfile(line, descriptor, offset + sent, count - sent)
        except BlockingIOError:
            if _takes_more_soon(line):
                continue
            return sent, os.pread(descriptor, min(_HANDED_OVER_BYTES, count - sent), offset + sent)
        if not passed:
            raise OSError("a file became shorter while it was sent")
        sent += passed
    return sent, b""


def _takes_more_soon(line: int) -> bool:
    waiting = select.poll()
    waiting.register(line, select.POLLOUT)
    return bool(waiting.poll(_PATIENCE_MILLISECONDS))
