"""A TCP proxy that breaks connections on purpose."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from servers import BucketServer


class CuttingProxy:
    """A TCP forwarder that resets the connection after so many bytes of an answer, as often as it is told."""

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self.cuts_left = 0
        self.cut_after_bytes = 0
        self.cuts_made = 0

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):  # closed at the end of the test
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                threading.Thread(target=self._forward, args=(near, far), daemon=True).start()
                threading.Thread(target=self._answer, args=(far, near), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        _shut(sink)

    def _answer(self, source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        with source, sink, suppress(OSError):
            while data := source.recv(1 << 14):
                passed += len(data)
                if self.cuts_left and passed > self.cut_after_bytes:
                    self.cuts_left -= 1
                    self.cuts_made += 1
                    break
                sink.sendall(data)
            _shut(sink)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(server: BucketServer) -> Iterator[CuttingProxy]:
    """A proxy before `server`, closed at the end."""
    host, _, port = server.host_and_port.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CuttingProxy(listener, (host, int(port)))
        threading.Thread(target=proxy.serve, daemon=True).start()
        yield proxy
        _shut(listener)
