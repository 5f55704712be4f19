"""Where bytes to be read come from: a file, a buffer, the extents of an artifact, a bucket, a pipe."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from registry.errors import MalformedArtifactError

ByteRange: TypeAlias = tuple[int, int]
"""Offset and length, both in bytes."""


class ByteSource(Protocol):
    """Random access to bytes of a known size. Several ranges in one call let a remote source plan requests."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range, in the order asked.

        Raises:
            MalformedArtifactError: a range lies outside the source.
        """
        ...


def check_ranges(ranges: Sequence[ByteRange], size: int) -> None:
    """Raise `MalformedArtifactError` if a range lies outside `size` bytes."""
    for offset, length in ranges:
        if offset < 0 or length < 0 or offset + length > size:
            raise MalformedArtifactError(
                f"The file is truncated: bytes {offset} to {offset + length} are needed, it has {size}."
            )


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._data)

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range."""
        check_ranges(ranges, self.size)
        return [bytes(self._data[offset : offset + length]) for offset, length in ranges]


class PartSource:
    """A part of another source, read as if it were a file of its own."""

    def __init__(self, source: ByteSource, place: ByteRange) -> None:
        check_ranges([place], source.size)
        self._source = source
        self._start, self._size = place

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._size

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range."""
        check_ranges(ranges, self._size)
        return self._source.read_many([(self._start + offset, length) for offset, length in ranges])


class FileSource:
    """An open regular file, read by position; a context manager that closes it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by __exit__
        self._size = os.fstat(self._file.fileno()).st_size

    @property
    def size(self) -> int:
        """The number of bytes when the file was opened."""
        return self._size

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range."""
        check_ranges(ranges, self._size)
        descriptor = self._file.fileno()
        return [_read_at(descriptor, offset, length) for offset, length in ranges]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _read_at(descriptor: int, offset: int, length: int) -> bytes:
    """Return the bytes of a range, which the system may hand out in several pieces."""
    content = os.pread(descriptor, length, offset)
    if len(content) == length:
        return content
    pieces = [content]
    while pieces[-1]:
        offset, length = offset + len(pieces[-1]), length - len(pieces[-1])
        if not length:
            return b"".join(pieces)
        pieces.append(os.pread(descriptor, length, offset))
    raise MalformedArtifactError("The file became shorter while it was read.")
