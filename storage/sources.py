"""Stored bytes as the source that the readers of weight files ask for ranges."""

from collections.abc import Sequence

from registry.formats.source import ByteRange, check_ranges
from storage.blobs.base import BlobStore


class BlobSource:
    """What was committed at a location.

    Args:
        size: in bytes, as the writer counted it.
    """

    def __init__(self, blobs: BlobStore, location: str, size: int) -> None:
        self._blobs = blobs
        self._location = location
        self._size = size

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._size

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each range.

        Raises:
            MalformedArtifactError: a range lies outside.
            BlobStoreUnavailableError: the store did not answer.
        """
        check_ranges(ranges, self._size)
        return self._blobs.read_many(self._location, ranges)
