"""When this process sent its last large piece, whatever sent it: seen at the sockets themselves."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LARGE_BYTES = 1 << 13


@dataclass(slots=True)
class Sent:
    """Seconds from the beginning of the watch until the end of the last large piece."""

    seconds: float = 0.0


@contextmanager
def watching_sent() -> Iterator[Sent]:
    """Watch all sockets of this process while the block runs. What they send is as quick as ever."""
    sent, start = Sent(), time.perf_counter()
    plain = {name: getattr(socket.socket, name) for name in ("send", "sendall", "sendmsg")}
    sendfile = os.sendfile

    def watched(send: Callable[..., Any], count: Callable[[Any], int]) -> Callable[..., Any]:
        def watching(*arguments: Any) -> Any:
            answer = send(*arguments)
            if count(arguments) >= LARGE_BYTES:
                sent.seconds = time.perf_counter() - start
            return answer

        return watching

    try:
        for name, send in plain.items():
            setattr(socket.socket, name, watched(send, _length if name != "sendmsg" else _lengths))
        os.sendfile = watched(sendfile, lambda arguments: arguments[3])
        yield sent
    finally:
        for name, send in plain.items():
            if name in vars(socket.socket):
                delattr(socket.socket, name)
            if getattr(socket.socket, name) is not send:
                setattr(socket.socket, name, send)
        os.sendfile = sendfile


def _length(arguments: Any) -> int:
    return memoryview(arguments[1]).nbytes


def _lengths(arguments: Any) -> int:
    return sum(memoryview(each).nbytes for each in arguments[1])
