"""Artifacts that lie in several objects, read as if each were one."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from registry.formats.source import ByteRange
from storage.blobs.base import BlobStore
from storage.metadata.records import Extent
from storage.read import damaged, iter_range, runs_of


class AssembledBlobs:
    """The reading half of a blob store, by artifact instead of location.

    Args:
        blobs: where the objects are.
        artifacts: the extents of each, by a name that stands in for a location; other locations are those of objects.
    """

    def __init__(self, blobs: BlobStore, artifacts: Mapping[str, Sequence[Extent]]) -> None:
        self._blobs = blobs
        self._artifacts = artifacts
        self._starts = {
            name: list(accumulate((extent.length for extent in extents), initial=0))
            for name, extents in artifacts.items()
        }

    def stream(self, location: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a range, to the end when `length` is None.

        Raises:
            BlobNotFoundError, BlobDamagedError: some of them are not there.
        """
        extents = self._artifacts.get(location)
        if extents is None:
            yield from self._blobs.stream(location, offset, length)
            return
        end = self._starts[location][-1] if length is None else offset + length
        yield from iter_range(self._blobs, extents, offset, end - offset)

    def read_many(self, location: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of several ranges, in the order asked, by one call an object.

        Raises:
            BlobNotFoundError, BlobDamagedError: some of them are not there.
        """
        extents = self._artifacts.get(location)
        if extents is None:
            return self._blobs.read_many(location, ranges)
        pieces: list[list[bytes]] = [[] for _ in ranges]
        wanted: dict[str, list[tuple[int, int, ByteRange]]] = {}
        for index, (offset, length) in enumerate(ranges):
            for number, run in enumerate(self._runs(location, offset, length)):
                pieces[index].append(b"")
                wanted.setdefault(run.location, []).append((index, number, (run.offset, run.length)))
        for each, members in wanted.items():
            try:
                found = self._blobs.read_many(each, [member[2] for member in members])
            except ValueError as error:  # the object ends before it should
                raise damaged("What was asked for") from error
            for (index, number, _), data in zip(members, found, strict=True):
                pieces[index][number] = data
        return [b"".join(each) for each in pieces]

    def _runs(self, location: str, offset: int, length: int) -> list[Extent]:
        """Return the runs of a range, looking only at the extents that it touches."""
        starts = self._starts[location]
        first = max(bisect_right(starts, offset) - 1, 0)
        last = bisect_left(starts, offset + length)
        return runs_of(self._artifacts[location][first:last], offset - starts[first], length)


def read_ranges(blobs: BlobStore, extents: Sequence[Extent], ranges: Sequence[ByteRange]) -> list[bytes]:
    """Return the bytes of several ranges of one artifact, in the order asked, by one call an object.

    Raises:
        BlobNotFoundError, BlobDamagedError: some of them are not there.
    """
    return AssembledBlobs(blobs, {"": extents}).read_many("", ranges)
