"""Reading and writing a file at places of it, from several threads; also where the system knows no such calls."""

import errno
import os
import threading
from pathlib import Path

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class PlacedFile:
    """A file that is read and written by offset. It is made where it is not there."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return os.fstat(self._descriptor).st_size

    def resize(self, size_bytes: int) -> None:
        """Make the file as long as this; what it gains is zeros that take no room."""
        os.ftruncate(self._descriptor, size_bytes)

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes at an offset."""
        while data:
            if hasattr(os, "pwrite"):
                written = os.pwrite(self._descriptor, data, offset)
            else:  # Windows
                with self._lock:
                    os.lseek(self._descriptor, offset, os.SEEK_SET)
                    written = os.write(self._descriptor, data)
            data, offset = data[written:], offset + written

    def take(self, pipe: int, offset: int, count: int) -> None:
        """Put bytes that are in a pipe at an offset."""
        while count:
            try:
                moved = os.splice(pipe, self._descriptor, count, offset_dst=offset)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                data = os.read(pipe, count)  # a file system that takes no pages
                self.write(offset, memoryview(data))
                moved = len(data)
            offset, count = offset + moved, count - moved

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer from an offset on and return how much there was."""
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [buffer], offset)
        with self._lock:  # Windows, and macOS before 11
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def sync(self) -> None:
        """Bring it to the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of it; again is fine."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
