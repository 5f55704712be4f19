"""Digests of the ranges that a file is cut into, several threads reading at different places."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from blake3 import blake3

from registry.errors import SizeMismatchError
from registry.formats.source import ByteRange

THREADS = 4
"""At most, and no more than there are processors."""
BATCH_BYTES = 8 << 20
"""What a thread takes at a time, at least: short ranges go together, and a long one for itself."""
READ_BYTES = 1 << 20
"""No more than stays in the cache of a processor from reading to digesting."""


def digest_ranges(path: Path, ranges: Sequence[ByteRange]) -> list[str]:
    """Return `blake3:…` of each of the ranges of a file, which follow one another without a gap.

    Raises:
        SizeMismatchError: the file ends before they do.
        OSError: it cannot be read.
    """
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), "weighbridge-digest") as threads:
        digesting = [threads.submit(_digest_batch, path, batch) for batch in _batches(ranges)]
        try:
            return list(chain.from_iterable(each.result() for each in digesting))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def became_shorter(path: Path) -> SizeMismatchError:
    """Return the error for a file of which there is less than there was."""
    return SizeMismatchError(f"{path} became shorter while it was read. Push it again.")


def _batches(ranges: Sequence[ByteRange]) -> Iterator[list[ByteRange]]:
    batch: list[ByteRange] = []
    gathered = 0
    for each in ranges:
        batch.append(each)
        gathered += each[1]
        if gathered >= BATCH_BYTES:
            yield batch
            batch, gathered = [], 0
    if batch:
        yield batch


def _digest_batch(path: Path, ranges: Sequence[ByteRange]) -> list[str]:
    buffer = memoryview(bytearray(min(READ_BYTES, max(length for _, length in ranges))))
    digests: list[str] = []
    with path.open("rb", buffering=0) as file:
        file.seek(ranges[0][0])
        for _, length in ranges:
            digest, left = blake3(), length
            while left:
                count = file.readinto(buffer[:left])
                if not count:
                    raise became_shorter(path)
                digest.update(buffer[:count])
                left -= count
            digests.append(f"blake3:{digest.hexdigest()}")
    return digests
