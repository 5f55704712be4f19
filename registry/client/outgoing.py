"""The bytes of a part of a planned file, made as often as it is sent: of the file, or of the ranges of it that are."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from io import FileIO
from itertools import accumulate

from registry.client.answers import PIECE_BYTES
from registry.client.file_sending import FilePiece
from registry.client.progress import Bar
from registry.client.transfer import OutgoingFile
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

    def __call__(self) -> Iterator[FilePiece]:
        """Yield the bytes in pieces of at most 1 MiB; what was yielded before has not moved."""
        self._bar.advance(-self._sent)
        self._sent = 0
        with FileIO(self._file.file) as file:
            for offset, length in self._ranges:
                for start in range(offset, offset + length, PIECE_BYTES):
                    piece = FilePiece(file, start, min(PIECE_BYTES, offset + length - start))
                    yield piece
                    self._sent += piece.length
                    self._bar.advance(piece.length)


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
