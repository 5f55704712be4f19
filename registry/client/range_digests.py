"""Digests of the ranges that a file is cut into, several threads reading at different places."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from itertools import chain, cycle
from pathlib import Path

from blake3 import blake3

from registry.errors import SizeMismatchError
from registry.formats.source import ByteRange
from registry.lanes import MOST_BEHIND, Lanes

THREADS = 4
"""At most, and no more than there are processors."""
BATCH_BYTES = 8 << 20
"""What a thread takes at a time, at least: short ranges go together."""
READ_BYTES = 1 << 20
"""No more than stays in the cache of a processor from reading to digesting."""


def digest_ranges(path: Path, ranges: Sequence[ByteRange]) -> list[str]:
    """Return `blake3:…` of each of the ranges of a file, which follow one another without a gap.

    A range longer than a thread's share of all would keep the others waiting: one thread reads it for another.

    Raises:
        SizeMismatchError: the file ends before they do.
        OSError: it cannot be read.
    """
    count = min(THREADS, os.cpu_count() or 1)
    share = max(sum(length for _, length in ranges) // count, BATCH_BYTES)
    batches = list(_batches(ranges, share))
    longest_first = sorted(range(len(batches)), key=lambda place: -batches[place][0][1])
    with ThreadPoolExecutor(count, "weighbridge-digest") as threads:
        digesting = {place: threads.submit(_digest_batch, path, batches[place], share) for place in longest_first}
        try:
            return list(chain.from_iterable(digesting[place].result() for place in range(len(batches))))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def iter_pieces(file: FileIO, size_bytes: int) -> Iterator[memoryview]:
    """Yield the next bytes of a file in pieces, each good until `MOST_BEHIND` others were asked for.

    There are fewer of them where the file ends before.
    """
    buffers = cycle([memoryview(bytearray(min(READ_BYTES, size_bytes))) for _ in range(MOST_BEHIND + 1)])
    for buffer in buffers:
        piece = buffer[: file.readinto(buffer[:size_bytes])]
        if not piece:
            return
        size_bytes -= len(piece)
        yield piece


def became_shorter(path: Path) -> SizeMismatchError:
    """Return the error for a file of which there is less than there was."""
    return SizeMismatchError(f"{path} became shorter while it was read. Push it again.")


def _batches(ranges: Sequence[ByteRange], share: int) -> Iterator[list[ByteRange]]:
    """Yield the ranges that a thread takes at a time; one beyond its share is alone."""
    batch: list[ByteRange] = []
    gathered = 0
    for each in ranges:
        if batch and (gathered >= BATCH_BYTES or each[1] > share):
            yield batch
            batch, gathered = [], 0
        batch.append(each)
        gathered += each[1]
    if batch:
        yield batch


def _digest_batch(path: Path, ranges: Sequence[ByteRange], share: int) -> list[str]:
    with path.open("rb", buffering=0) as file:
        file.seek(ranges[0][0])
        if ranges[0][1] > share:
            return [_digest_long(file, ranges[0][1])]
        buffer = memoryview(bytearray(min(READ_BYTES, max(length for _, length in ranges))))
        return [_digest_short(file, length, buffer) for _, length in ranges]


def _digest_long(file: FileIO, length: int) -> str:
    digest = blake3()
    with Lanes([digest.update]) as lanes:
        for piece in iter_pieces(file, length):
            lanes.put(piece)
            length -= len(piece)
    if length:
        raise became_shorter(Path(str(file.name)))
    return f"blake3:{digest.hexdigest()}"


def _digest_short(file: FileIO, length: int, buffer: memoryview) -> str:
    digest = blake3()
    while length:
        count = file.readinto(buffer[:length])
        if not count:
            raise became_shorter(Path(str(file.name)))
        digest.update(buffer[:count])
        length -= count
    return f"blake3:{digest.hexdigest()}"
