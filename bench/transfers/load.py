"""The load generator of all who answer over HTTP: connections that stay open, each with one question at a time."""

import selectors
import socket
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from transfers.processes import processor_seconds

CONNECTIONS = 8
_END = b"\r\n\r\n"


class Rate(NamedTuple):
    """Answers a second, and the time that processors of the server spent on each, in seconds."""

    requests_a_second: float
    processor_seconds: float

    def __str__(self) -> str:
        return f"{self.requests_a_second:.1f} requests/s, {self.processor_seconds * 1e3:.2f} ms of processors each"


def ask_again_and_again(url: str, pid: int, headers: dict[str, str], seconds: float) -> Rate:
    """Return how fast a server, whose first process is named, answers with status 200.

    Raises:
        RuntimeError: another answer came, or one in pieces that say not how long they are together.
    """
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    question = "\r\n".join(lines).encode() + _END
    with selectors.DefaultSelector() as selector:
        connections = [socket.create_connection((parts.hostname or "", parts.port or 80)) for _ in range(CONNECTIONS)]
        try:
            for connection in connections:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ, bytearray())
                connection.sendall(question)
            before = processor_seconds(pid)
            answered, passed = _drive(selector, question, seconds)
            return Rate(answered / passed, (processor_seconds(pid) - before) / max(answered, 1))
        finally:
            for connection in connections:
                connection.close()


def _drive(selector: selectors.BaseSelector, question: bytes, seconds: float) -> tuple[int, float]:
    answered = 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        for key, _ in selector.select(1.0):
            connection: socket.socket = key.fileobj  # type: ignore[assignment]
            received: bytearray = key.data
            received += connection.recv(1 << 16)
            if _is_whole(received):
                answered += 1
                received.clear()
                connection.sendall(question)
    return answered, passed


def _is_whole(received: bytearray) -> bool:
    """Return whether an answer is there to its end."""
    head, found, body = bytes(received).partition(_END)
    if not found:
        if not received:
            raise RuntimeError("the server closed a connection")
        return False
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"answered: {bytes(received[:500])!r}")
    lower = head.lower()
    if b"content-length:" not in lower:
        raise RuntimeError("an answer does not say how long it is")
    return len(body) >= int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
