"""A TCP proxy that counts bytes, and breaks connections on purpose."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from servers import BucketServer


class CuttingProxy:
    """A TCP forwarder that resets connections in the middle of an answer.

    Attributes:
        cuts_left: how many more connections it resets.
        cut_after_bytes: how much of the answer it lets through before.
        only_after: it cuts only when what was last sent holds this.
        cuts_made: how many it has reset.
        passed_bytes: how many bytes came, of both ways.
    """

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self.cuts_left = 0
        self.cut_after_bytes = 0
        self.only_after = b""
        self.cuts_made = 0
        self.passed_bytes = 0
        self._counting = threading.Lock()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):  # closed at the end of the test
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._target)
                except OSError:  # nobody is there any more, as the near end shall see
                    near.close()
                    continue
                last_sent: list[bytes] = [b""]
                for work in (self._forward, self._answer):
                    threading.Thread(target=work, args=(near, far, last_sent), daemon=True).start()

    def _forward(self, near: socket.socket, far: socket.socket, last_sent: list[bytes]) -> None:
        with suppress(OSError):
            while data := near.recv(1 << 16):
                last_sent[0] = data
                self._count(data)
                far.sendall(data)
        _shut(far)

    def _answer(self, near: socket.socket, far: socket.socket, last_sent: list[bytes]) -> None:
        passed = 0
        with near, far, suppress(OSError):
            while data := far.recv(1 << 14):
                passed += len(data)
                self._count(data)
                if self.cuts_left and passed > self.cut_after_bytes and self.only_after in last_sent[0]:
                    self.cuts_left -= 1
                    self.cuts_made += 1
                    break
                near.sendall(data)
            _shut(near)

    def _count(self, data: bytes) -> None:
        with self._counting:
            self.passed_bytes += len(data)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(server: BucketServer | str) -> Iterator[CuttingProxy]:
    """A proxy before a server, or what listens at `HOST:PORT`, closed at the end."""
    host, _, port = (server if isinstance(server, str) else server.host_and_port).partition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CuttingProxy(listener, (host, int(port)))
        threading.Thread(target=proxy.serve, daemon=True).start()
        yield proxy
        _shut(listener)
