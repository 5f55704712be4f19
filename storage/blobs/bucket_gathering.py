"""Gathering an object in a bucket: a multipart upload, whose parts come from clients or through the service."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress

from registry.errors import (
    BlobNotFoundError,
    BlobStoreUnavailableError,
    IncompleteUploadError,
    SizeMismatchError,
    UploadEndedError,
)
from storage.blobs.bucket import Bucket
from storage.blobs.gathering import Gathering, Part, PartWriter
from storage.blobs.signed import SignedRequest

MAX_PARTS = 10_000


class BucketGathering(Gathering):
    """The part of a bucket's store that gathers objects."""

    _bucket: Bucket

    @abstractmethod
    def _key(self, location: str) -> str:
        """Return the key of a location."""

    def begin_multipart(self, location: str, size_bytes: int) -> str:
        """Open a multipart upload and return its id."""
        del size_bytes  # a bucket tells nobody how much room it has
        return self._bucket.begin_upload(self._key(location))

    def open_part(self, location: str, multipart_id: str, number: int, offset: int, length: int) -> PartWriter:
        """Return where the bytes of a part go, which are held in memory until all are there."""
        del offset
        return BucketPartWriter(self._bucket, self._key(location), multipart_id, number, length)

    def presign_part(self, location: str, multipart_id: str, number: int, ttl_seconds: int) -> SignedRequest:
        """Return a PUT for one part."""
        if not 1 <= number <= MAX_PARTS:
            raise ValueError(f"part numbers run from 1 to {MAX_PARTS}, not {number}")
        return self._bucket.presign_part(self._key(location), multipart_id, number, ttl_seconds)

    def list_parts(self, location: str, multipart_id: str) -> list[Part]:
        """Return the parts that the bucket has."""
        try:
            return self._bucket.list_parts(self._key(location), multipart_id)
        except (IncompleteUploadError, BlobNotFoundError) as error:
            raise UploadEndedError("The upload has ended and takes no bytes any more. Begin a new one.") from error

    def complete_multipart(self, location: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Join the parts into the object at `location`."""
        key = self._key(location)
        try:
            self._bucket.complete_upload(key, multipart_id, parts)
        except (IncompleteUploadError, BlobStoreUnavailableError) as refusal:
            # The answer to an earlier attempt may have been lost: nothing else writes to this location.
            try:
                self._bucket.size_bytes(key)
            except (BlobNotFoundError, BlobStoreUnavailableError):
                raise refusal from None

    def abort_multipart(self, location: str, multipart_id: str) -> None:
        """Drop an open multipart upload."""
        with suppress(IncompleteUploadError):
            self._bucket.abort_upload(self._key(location), multipart_id)


class BucketPartWriter(PartWriter):
    """Holds one part until all of it is there: what a bucket takes is signed or announced as a whole."""

    def __init__(self, bucket: Bucket, key: str, multipart_id: str, number: int, length: int) -> None:
        self._bucket = bucket
        self._key = key
        self._multipart_id = multipart_id
        self._number = number
        self._length = length
        self._data = bytearray()

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Hold more bytes."""
        if len(self._data) + sum(map(len, pieces)) > self._length:
            raise SizeMismatchError("The part is longer than its upload's plan says. Send exactly its bytes.")
        for piece in pieces:
            self._data += piece

    def keep(self) -> None:
        """Send them."""
        if len(self._data) != self._length:
            raise SizeMismatchError("The part is shorter than its upload's plan says. Send it again.")
        try:
            self._bucket.send_part(self._key, self._multipart_id, self._number, self._data)
        except IncompleteUploadError as error:
            raise UploadEndedError("The upload has ended and takes no bytes any more. Begin a new one.") from error

    def close(self) -> None:
        """Forget them."""
        self._data = bytearray()
