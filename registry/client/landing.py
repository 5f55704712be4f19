"""Bodies of answers on their way into files: by the kernel alone where nothing is encrypted, else through a buffer."""

import os
from contextlib import suppress
from types import TracebackType
from typing import Self

from registry.client.answers import Incoming
from registry.client.places import PlacedFile

BUFFER_BYTES = 256 << 10
"""Of one connection. A user may have 64 MiB in pipes before new ones are narrow (pipe(7)): enough for 64 downloads."""


class Landing:
    """Where one thread receives: a pipe, or a buffer, whichever an answer needs. A context manager.

    Only Linux moves pages from a connection to a file (splice(2)), which spares them two copies.
    """

    def __init__(self) -> None:
        self._buffer = memoryview(b"")
        self._pipe = _open_pipe() if hasattr(os, "splice") else None

    def move(self, incoming: Incoming, file: PlacedFile, offset: int, most_bytes: int) -> int:
        """Put what comes next of an answer at an offset of a file; return how much that was, 0 at its end.

        Raises:
            ServerUnreachableError: the connection broke.
            OSError: the file takes no more.
        """
        most_bytes = min(most_bytes, BUFFER_BYTES)
        if self._pipe is not None:
            reading, writing = self._pipe
            size = incoming.splice_into(writing, most_bytes)
            if size:
                file.take(reading, offset, size)
                return size
        if not self._buffer:
            self._buffer = memoryview(bytearray(BUFFER_BYTES))
        size = incoming.read_into(self._buffer[:most_bytes])
        file.write(offset, self._buffer[:size])
        return size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._pipe or ():
            os.close(descriptor)


def _open_pipe() -> tuple[int, int] | None:
    """Return a pipe, as wide as Linux lets it be; None where there is no descriptor for it."""
    import fcntl

    try:
        pipe = os.pipe()
    except OSError:
        return None
    with suppress(OSError):
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, BUFFER_BYTES)
    return pipe
