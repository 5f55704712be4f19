"""A TCP proxy that counts what passes, apart for each process that comes: exact, and slow, so it times nothing."""

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PIECE_BYTES = 1 << 18


class CountingProxy:
    """Forwards connections to a server.

    Attributes:
        sent: bytes to the server, by the process that opened the connection.
        received: bytes from the server, likewise.
    """

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self._counting = threading.Lock()
        self.sent: Counter[int] = Counter()
        self.received: Counter[int] = Counter()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with suppress(OSError):
            while True:
                near, (_, port) = self._listener.accept()
                far = socket.create_connection(self._target)
                pid = find_owner(port)
                for source, target, count in ((near, far, self.sent), (far, near, self.received)):
                    threading.Thread(target=self._forward, args=(source, target, count, pid), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, count: Counter[int], pid: int) -> None:
        buffer = bytearray(PIECE_BYTES)
        with suppress(OSError):
            while size := source.recv_into(buffer):
                with self._counting:
                    count[pid] += size
                target.sendall(memoryview(buffer)[:size])
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def counting(url: str) -> Iterator[CountingProxy]:
    """Run a proxy before a server until the block ends."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        proxy = CountingProxy(listener, (host, int(port)))
        threading.Thread(target=proxy.serve, daemon=True).start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def find_owner(port: int) -> int:
    """Return the process that has a TCP port of loopback open, as an end that it connected from; 0 for none."""
    ends = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, inode = line.split()[1], line.split()[9]
        if local.endswith(ends) and inode != "0":
            return _holder(f"socket:[{inode}]")
    return 0


def _holder(name: str) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in os.scandir(process / "fd"):
                with suppress(OSError):
                    if Path(descriptor.path).readlink() == Path(name):
                        return int(process.name)
    return 0
