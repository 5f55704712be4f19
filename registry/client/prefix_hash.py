"""Digesting a file while it comes: a thread follows what is there of it without a gap."""

import errno
import threading
from collections.abc import Sequence

from registry.client.cache import READ_BYTES
from registry.client.growing_copy import GrowingCopy
from registry.client.landed import Landed
from registry.client.places import PlacedFile
from registry.digest import StreamDigests
from registry.formats.source import ByteRange


class PrefixHash:
    """The BLAKE3 of a file that is being written, and of ranges of it: a thread follows what is there of it.

    Args:
        file: that is being written.
        landed: what is there of it.
        size_bytes: of the whole.
        ranges: offsets and lengths, in bytes, of what is digested besides the whole.
        copy: gets what is digested, from the beginning.
    """

    def __init__(
        self,
        file: PlacedFile,
        landed: Landed,
        size_bytes: int,
        ranges: Sequence[ByteRange],
        copy: GrowingCopy | None = None,
    ) -> None:
        self._file = file
        self._landed = landed
        self._size_bytes = size_bytes
        self._copy = copy
        self._digests = StreamDigests(ranges, size_bytes, sha256=False)
        self._failure: OSError | None = None
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="weighbridge-hash", daemon=True)
        self._thread.start()

    def finish(self) -> StreamDigests:
        """Return the digests once all is there."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._digests

    def stop(self) -> None:
        """Go no further."""
        self._is_stopped.set()
        self._landed.wake()
        self._thread.join()

    def _follow(self) -> None:
        buffer = memoryview(bytearray(READ_BYTES))
        position = 0
        if self._copy is not None:
            self._copy.restart()
        try:
            while position < self._size_bytes and not self._is_stopped.is_set():
                end = self._landed.wait_beyond(position, self._is_stopped)
                while position < end and not self._is_stopped.is_set():
                    data = _read(self._file, position, buffer[: min(READ_BYTES, end - position)])
                    self._digests.update(data)
                    if self._copy is not None:
                        self._copy.write(data)
                    position += len(data)
        except OSError as error:
            self._failure = error


def _read(file: PlacedFile, offset: int, buffer: memoryview) -> memoryview:
    size = file.read_into(offset, buffer)
    if not size:
        raise OSError(errno.EIO, "the file became shorter while it was written")
    return buffer[:size]
