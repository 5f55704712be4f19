"""The contract of a blob store: bytes at locations, published atomically, read by range.

A *location* is a random key minted for one write (`new_location`) and never used again. A store knows no
names, teams or digests, and nothing is ever found by listing it.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from registry.formats.source import ByteRange

READ_PIECE_BYTES = 1 << 20
"""Streams are yielded in pieces of at most this size: what raw ASGI serves fastest."""


def new_location() -> str:
    """Return a fresh random location: two levels of fan-out, then 32 hex digits."""
    name = secrets.token_hex(16)
    return f"{name[:2]}/{name[2:4]}/{name}"


@dataclass(frozen=True, slots=True)
class Written:
    """What a committed write holds: `sha256:…` and the size in bytes, both computed from the bytes."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that somebody without credentials may send until `expires_at` (UTC), with exactly these headers."""

    method: str
    url: str
    headers: dict[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """One uploaded part of a multipart upload, as the store acknowledged it."""

    number: int
    etag: str


class BlobWriter(ABC):
    """One write to one location. Nothing is readable there before `commit` returns.

    As a context manager it aborts when the block ends without a commit, also on an exception.
    """

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`.

        Raises:
            StorageFullError: no room. BlobStoreUnavailableError: the store did not answer.
        """

    @abstractmethod
    def commit(self) -> Written:
        """Make the bytes readable, durably, and return what they are.

        Raises:
            DigestMismatchError: they have another SHA-256 than `expected_sha256`; nothing is kept.
            StorageFullError, BlobStoreUnavailableError: as for `write`; nothing is kept.
        """

    @abstractmethod
    def abort(self) -> None:
        """Drop everything written, leaving no temporary file or open multipart upload. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class BlobStore(ABC):
    """Bytes at locations. Every method may be called from several threads at once.

    Attributes:
        can_presign: whether `presign_read` and the multipart methods work (a bucket) or raise (a folder).
    """

    can_presign: bool = False

    @abstractmethod
    def create(self, location: str, *, expected_sha256: str | None = None) -> BlobWriter:
        """Return a writer for `location`. Its memory use is bounded whatever the size."""

    @abstractmethod
    def size_bytes(self, location: str) -> int:
        """Return the size of what was committed there.

        Raises:
            BlobNotFoundError: nothing is there.
        """

    @abstractmethod
    def stream(self, location: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a range, to the end when `length` is None, in pieces of at most `READ_PIECE_BYTES`.

        Raises (at the first `next`):
            BlobNotFoundError: nothing is there.
            BlobStoreUnavailableError: the store did not answer, also in the middle.
        """

    @abstractmethod
    def read_many(self, location: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of several ranges, in the order asked, in as few requests as is sensible.

        Raises:
            BlobNotFoundError: nothing is there.
            ValueError: a range lies outside the object.
        """

    @abstractmethod
    def delete(self, location: str) -> None:
        """Remove what is there; nothing there is fine."""

    @abstractmethod
    def iter_locations(self) -> Iterator[str]:
        """Yield every location that holds something. For `fsck` only."""

    @abstractmethod
    def registry_id(self) -> str | None:
        """Return the id of the registry that this store belongs to, None for an empty store."""

    @abstractmethod
    def claim(self, registry_id: str) -> None:
        """Record whose store this is. It is not overwritten when another id is there already."""

    @abstractmethod
    def check(self) -> None:
        """Return when the store answers.

        Raises:
            BlobStoreUnavailableError: it does not; the detail says what to look at.
        """

    def presign_read(self, location: str, offset: int, length: int, ttl_seconds: int) -> SignedRequest:
        """Return a GET for exactly this range: another range, or none, is refused by the store."""
        raise NotImplementedError(f"{type(self).__name__} cannot presign: bytes go through the service")

    def begin_multipart(self, location: str) -> str:
        """Open a multipart upload and return its id."""
        raise NotImplementedError(f"{type(self).__name__} takes no parts: bytes go through the service")

    def presign_part(self, location: str, upload_id: str, number: int, ttl_seconds: int) -> SignedRequest:
        """Return a PUT for part `number` (1 to 10,000); it is dead once the upload is completed or aborted."""
        raise NotImplementedError(f"{type(self).__name__} takes no parts: bytes go through the service")

    def complete_multipart(self, location: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Join the parts into the object at `location`."""
        raise NotImplementedError(f"{type(self).__name__} takes no parts: bytes go through the service")

    def abort_multipart(self, location: str, upload_id: str) -> None:
        """Drop an open multipart upload; an unknown one is fine."""
        raise NotImplementedError(f"{type(self).__name__} takes no parts: bytes go through the service")
