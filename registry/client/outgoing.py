"""The bytes of a part of a planned file, made as often as it is sent: of the file, or of the ranges of it that are."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import IO

from registry.client.answers import PIECE_BYTES
from registry.client.progress import Bar
from registry.client.transfer import OutgoingFile
from registry.errors import SizeMismatchError
from registry.formats.source import ByteRange
from registry.uploads import PartRequest, PlannedFile


class PartBody:
    """A part.

    Args:
        file: that the bytes are of.
        planned: how it is sent.
        part: which bytes of what is sent.
        bar: is told of bytes that have moved.
    """

    def __init__(self, file: OutgoingFile, planned: PlannedFile, part: PartRequest, bar: Bar) -> None:
        self._file = file
        send = [(0, file.size_bytes)] if planned.send is None else planned.send
        self._ranges = ranges_of_part(send, part.offset, part.length)
        self._bar = bar
        self._sent = 0

    def __call__(self) -> Iterator[bytes]:
        """Yield the bytes; what was yielded before has not moved.

        Raises:
            SizeMismatchError: the file became shorter.
        """
        self._bar.advance(-self._sent)
        self._sent = 0
        with self._file.file.open("rb", buffering=0) as file:
            for offset, length in self._ranges:
                for piece in self._read(file, offset, length):
                    yield piece
                    self._sent += len(piece)
                    self._bar.advance(len(piece))

    def _read(self, file: IO[bytes], offset: int, length: int) -> Iterator[bytes]:
        file.seek(offset)
        end = offset + length
        while offset < end:
            piece = file.read(min(PIECE_BYTES, end - offset))
            if not piece:
                raise SizeMismatchError(f"{self._file.file} became shorter while it was sent. Push it again.")
            yield piece
            offset += len(piece)


def ranges_of_part(send: Sequence[ByteRange], offset: int, length: int) -> list[ByteRange]:
    """Return the ranges of a file that `length` bytes from `offset` are, in what is sent of it."""
    starts = list(accumulate((each for _, each in send), initial=0))
    ranges: list[ByteRange] = []
    for index in range(max(bisect_right(starts, offset) - 1, 0), len(send)):
        first, last = max(offset, starts[index]), min(offset + length, starts[index + 1])
        if first >= last:
            break
        ranges.append((send[index][0] + first - starts[index], last - first))
    return ranges
