"""Artifacts that lie in several objects, read as if each were one."""

from collections.abc import Iterator, Mapping, Sequence

from registry.formats.source import ByteRange
from storage.blobs.base import BlobStore
from storage.metadata.records import Extent
from storage.read import iter_range


class AssembledBlobs:
    """The reading half of a blob store, by artifact instead of location.

    Args:
        blobs: where the objects are.
        artifacts: the extents of each, by a name that stands in for a location.
    """

    def __init__(self, blobs: BlobStore, artifacts: Mapping[str, Sequence[Extent]]) -> None:
        self._blobs = blobs
        self._artifacts = artifacts

    def stream(self, location: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a range, to the end when `length` is None.

        Raises:
            BlobNotFoundError, BlobDamagedError: some of them are not there.
        """
        extents = self._artifacts[location]
        end = sum(extent.length for extent in extents) if length is None else offset + length
        yield from iter_range(self._blobs, extents, offset, end - offset)

    def read_many(self, location: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of several ranges, in the order asked."""
        extents = self._artifacts[location]
        if len(extents) == 1 and not extents[0].offset:
            return self._blobs.read_many(extents[0].location, ranges)
        return [b"".join(self.stream(location, offset, length)) for offset, length in ranges]
