"""The calls of an S3 bucket that a library has to supply, and what the bucket's error codes mean here."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from http import HTTPStatus

from registry.errors import BlobNotFoundError, BlobStoreUnavailableError, IncompleteUploadError, StorageFullError
from storage.blobs.gathering import Part
from storage.blobs.signed import SignedRequest


class Bucket(ABC):
    """The calls of one S3 bucket, by key. Third-party exceptions stop here (`bucket_error`)."""

    @abstractmethod
    def put(self, key: str, data: bytearray | bytes, *, only_if_absent: bool = False) -> None:
        """Store an object in one request; `only_if_absent` is honoured by most servers, not all."""

    @abstractmethod
    def get(self, key: str, offset: int, length: int | None) -> Iterator[bytes]:
        """Yield what there is of a range, in pieces of at most `READ_PIECE_BYTES`; less when the object ends before.

        Raises:
            ValueError: the range begins at or behind the object's end.
        """

    @abstractmethod
    def size_bytes(self, key: str) -> int:
        """Return an object's size."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object, or nothing."""

    @abstractmethod
    def iter_keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""

    @abstractmethod
    def begin_upload(self, key: str) -> str:
        """Open a multipart upload and return its id."""

    @abstractmethod
    def send_part(self, key: str, upload_id: str, number: int, data: bytearray) -> Part:
        """Store one part."""

    @abstractmethod
    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that an upload has, by number.

        Raises:
            IncompleteUploadError: there is no such upload.
        """

    @abstractmethod
    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Join the parts.

        Raises:
            IncompleteUploadError: there is no such upload, or it has other parts.
        """

    @abstractmethod
    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload.

        Raises:
            IncompleteUploadError: there is no such upload.
        """

    @abstractmethod
    def list_upload_ids(self, key: str) -> list[str]:
        """Return the open multipart uploads of exactly this key."""

    @abstractmethod
    def presign_get(self, key: str, offset: int, length: int, ttl_seconds: int) -> SignedRequest:
        """Return a GET whose signature covers the `Range` header."""

    @abstractmethod
    def presign_object(self, key: str, disposition: str, ttl_seconds: int) -> SignedRequest:
        """Return a GET of a whole object, answered with this `Content-Disposition` as `application/octet-stream`."""

    @abstractmethod
    def presign_part(self, key: str, upload_id: str, number: int, ttl_seconds: int) -> SignedRequest:
        """Return a PUT of one part."""

    @abstractmethod
    def check(self) -> None:
        """Return when the bucket is there and lets us in."""


OBJECT_TYPE = "application/octet-stream"
"""Media type of whatever is read by URL: no browser shows it."""
_FULL = frozenset(
    {
        "InsufficientStorage",
        "QuotaExceeded",
        "StorageFull",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioStorageFull",
    }
)
_NO_UPLOAD = frozenset({"EntityTooSmall", "InvalidPart", "InvalidPartOrder", "MalformedXML", "NoSuchUpload"})


def bucket_error(  # noqa: PLR0911 - a table, in order of precedence
    code: str, status: int, message: str, *, bucket: str, key: str | None
) -> Exception:
    """Return what an error answer of S3 means here.

    Args:
        code: S3's word, or the status when a HEAD had no body to say it in.
        status: the HTTP status, 0 when unknown.
        message: S3's sentence.
        bucket: the bucket asked.
        key: the key asked, None when the bucket itself was.
    """
    what = f"The bucket {bucket} answered {code} ({status}): {message}"
    if code in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
        return StorageFullError(f"{what} Nothing was kept. Delete or purge versions, or raise its quota.")
    if code in _NO_UPLOAD:
        return IncompleteUploadError(f"{what} Send the missing parts again, or begin a new upload.")
    if code == "NoSuchBucket" or (key is None and status == HTTPStatus.NOT_FOUND):
        return BlobStoreUnavailableError(f"There is no bucket {bucket}. Create it, or correct its name.")
    if status == HTTPStatus.NOT_FOUND:
        return BlobNotFoundError(f"The bucket {bucket} holds nothing at {key}: it was removed behind our back.")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return ValueError(f"the range lies outside the object at {key}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return BlobStoreUnavailableError(f"{what} Look at the access key, the secret key and what they may do.")
    return BlobStoreUnavailableError(f"{what} Look at the bucket's server; trying again later may help.")
