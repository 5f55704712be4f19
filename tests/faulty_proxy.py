"""An HTTP proxy for tests that resets, stalls, cuts short, slows down and refuses, and counts what it lets through."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

REFUSAL = b"HTTP/1.1 %s Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PIECE_BYTES = 1 << 14


class FaultyProxy:
    """A forwarder, one request a connection.

    Attributes:
        faults: of the next requests: `ok`, `reset`, `truncate`, `stall`, `drop`, or a status; `ok` when they end.
        after_bytes: of the answer, before it breaks.
        after_sent_bytes: of the request, before `drop` breaks it.
        stall_seconds: how long a stalled answer is silent before it is reset.
        only: requests without these bytes in their head are neither broken nor counted.
        bytes_per_second: of all answers together; None for no limit.
        answered_bytes: of the answers that are counted.
        heads: of the requests, as they came.
    """

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self._lock = threading.Lock()
        self._is_away = False
        self.bytes_per_second: int | None = None
        self.after_bytes = 0
        self.after_sent_bytes = 0
        self.only = b""
        self.stall_seconds = 1.0
        self.reset()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def reset(self) -> None:
        self.faults: Iterator[str] = iter(())
        self.answered_bytes = 0
        self.heads: list[bytes] = []

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let nobody connect: the port is closed for the block."""
        port = self._listener.getsockname()[1]
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        try:
            yield
        finally:
            self._listener = socket.create_server(("127.0.0.1", port))
            threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        listener = self._listener
        with suppress(OSError):  # closed at the end of the test
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(self._target) as far:
            head = b""
            while b"\r\n\r\n" not in head:
                data = near.recv(1 << 16)
                if not data:
                    return
                head += data
            is_meant = self.only in head
            with self._lock:
                fault = next(self.faults, "ok") if is_meant else "ok"
                self.heads.append(head)
            if fault.isdigit():
                near.sendall(REFUSAL % fault.encode())
                return
            line, _, rest = head.partition(b"\r\n")
            far.sendall(line + b"\r\nConnection: close\r\n" + rest)
            most = self.after_sent_bytes if fault == "drop" else None
            threading.Thread(target=_forward, args=(near, far, most), daemon=True).start()
            try:
                self._answer(near, far, "ok" if fault == "drop" else fault, is_meant=is_meant)
            finally:
                _wake(near, far)

    def _answer(self, near: socket.socket, far: socket.socket, fault: str, *, is_meant: bool) -> None:
        passed = 0
        while data := far.recv(PIECE_BYTES):
            passed += len(data)
            if fault != "ok" and passed > self.after_bytes:
                if fault == "stall":
                    far.close()
                    time.sleep(self.stall_seconds)
                if fault in {"reset", "stall"}:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return
            near.sendall(data)
            if is_meant:
                with self._lock:
                    self.answered_bytes += len(data)
                    if self.bytes_per_second:
                        time.sleep(len(data) / self.bytes_per_second)


def _wake(*ends: socket.socket) -> None:
    """End connections that a thread may be waiting at: closing alone would wait for it."""
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _forward(near: socket.socket, far: socket.socket, most: int | None) -> None:
    """Pass on what is sent; where no more than so many bytes may pass, break both connections then."""
    passed = 0
    with suppress(OSError):
        while data := near.recv(1 << 16):
            passed += len(data)
            if most is not None and passed > most:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                _wake(near, far)
                return
            far.sendall(data)


@contextmanager
def faulty_proxy(host_and_port: str) -> Iterator[FaultyProxy]:
    """A proxy before a server, closed at the end."""
    host, _, port = host_and_port.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = FaultyProxy(listener, (host, int(port)))
        threading.Thread(target=proxy.serve, daemon=True).start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                proxy._listener.shutdown(socket.SHUT_RDWR)
            proxy._listener.close()
