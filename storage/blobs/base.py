"""The contract of a blob store: bytes at locations, published atomically, read by range.

A *location* is a random key minted for one write (`new_location`) and never used again. A store knows no
names, teams or digests, and nothing is ever found by listing it.
"""

import hashlib
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from registry.errors import DigestMismatchError
from registry.formats.source import ByteRange
from storage.blobs.gathering import Gathering
from storage.blobs.signed import SignedRequest

READ_PIECE_BYTES = 1 << 20
"""Streams are yielded in pieces of at most this size: what raw ASGI serves fastest."""

_LOCATION = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/\1\2[0-9a-f]{28}")

_RECORD = re.compile(r"[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}/([0-9]{1,19}|model)\.json")
RECORDS = "records/"
"""How the keys of records begin."""


def new_location() -> str:
    """Return a fresh random location: two levels of fan-out, then 32 hex digits."""
    name = secrets.token_hex(16)
    return f"{name[:2]}/{name[2:4]}/{name}"


def is_location(text: str) -> bool:
    """Return whether `text` has the form that `new_location` gives: nothing else reaches a path or a key."""
    return _LOCATION.fullmatch(text) is not None


def check_location(location: str) -> str:
    """Return `location` if it has the form that `new_location` gives.

    Raises:
        ValueError: it has not; a bug of the caller, for no user ever names a location.
    """
    if not is_location(location):
        raise ValueError(f"{location[:100]!r} is no blob location")
    return location


def check_record_name(name: str) -> str:
    """Return `name` if it is `TEAM/MODEL/NUMBER.json` or `TEAM/MODEL/model.json`.

    Raises:
        ValueError: it is neither; a bug of the caller, for names of teams and models are checked.
    """
    if _RECORD.fullmatch(name) is None or ".." in name or "/." in name or name.startswith("."):
        raise ValueError(f"{name[:300]!r} is no name of a record")
    return name


@dataclass(frozen=True, slots=True)
class Written:
    """What a committed write holds: `sha256:…` and the size in bytes, both computed from the bytes."""

    sha256: str
    size_bytes: int


class FilePiece(NamedTuple):
    """Bytes of an open file, for whoever copies them without reading: good until the next piece is asked for."""

    descriptor: int
    offset: int
    length: int


class BlobWriter(ABC):
    """One write to one location. Nothing is readable there before `commit` returns.

    As a context manager it aborts when the block ends without a commit, also on an exception. After any
    failure it has aborted by itself. One thread at a time may use it.

    A backend fills in `_append`, `_publish` and `_discard`; hashing and the order of things are only here.
    """

    def __init__(self, expected_sha256: str | None = None) -> None:
        self._expected_sha256 = expected_sha256
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._open = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`.

        Raises:
            StorageFullError: no room; nothing is kept.
            BlobStoreUnavailableError: the store did not answer; nothing is kept.
            ValueError: the write has ended already.
        """
        self._require_open()
        try:
            with memoryview(data).cast("B") as view:
                self._append(view)
                self._sha256.update(view)
                self._size_bytes += len(view)
        except BaseException:
            self.abort()
            raise

    def commit(self) -> Written:
        """Make the bytes readable, durably, and return what they are.

        Raises:
            DigestMismatchError: they have another SHA-256 than `expected_sha256`; nothing is kept.
            StorageFullError, BlobStoreUnavailableError: as for `write`; nothing is kept.
            ValueError: the write has ended already.
        """
        self._require_open()
        written = Written(f"sha256:{self._sha256.hexdigest()}", self._size_bytes)
        try:
            self._check_digest(written.sha256)
            self._publish()
        except BaseException:
            self.abort()
            raise
        self._open = False
        return written

    def abort(self) -> None:
        """Drop everything written, leaving no temporary file or open multipart upload.

        May be called twice and after `commit`, when it does nothing. It does not raise when the store is away:
        what stays behind there is dropped by `BlobStore.clear`.
        """
        if self._open:
            self._open = False
            self._discard()

    def _check_digest(self, actual: str) -> None:
        if self._expected_sha256 not in (None, actual):
            raise DigestMismatchError(
                f"The bytes are {actual}, announced was {self._expected_sha256}: they changed on the way or are "
                "another file. Nothing was stored; send them again.",
                expected=self._expected_sha256,
                actual=actual,
            )

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError("this write has been committed or aborted")

    @abstractmethod
    def _append(self, view: memoryview) -> None:
        """Take the next bytes; they may change after the return."""

    @abstractmethod
    def _publish(self) -> None:
        """Make what was appended readable at the location, in one step."""

    @abstractmethod
    def _discard(self) -> None:
        """Drop what was appended, whatever has happened before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class BlobStore(Gathering):
    """Bytes at locations. Every method may be called from several threads at once.

    Attributes:
        can_presign: whether requests can be signed for clients (a bucket), or signing raises `NotImplementedError`.
        streams_files: whether `stream_files` gives pieces of files.
    """

    can_presign: bool = False
    streams_files: bool = False

    @abstractmethod
    def create(self, location: str, *, expected_sha256: str | None = None) -> BlobWriter:
        """Return a writer for `location`. Its memory use is bounded whatever the size.

        A location is written once: the caller mints it, and never writes to it again.
        """

    @abstractmethod
    def size_bytes(self, location: str) -> int:
        """Return the size of what was committed there.

        Raises:
            BlobNotFoundError: nothing is there.
        """

    @abstractmethod
    def stream(self, location: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a range, to the end when `length` is None, in pieces of at most 1 MiB.

        Nothing is opened before the first `next`.

        Raises:
            BlobNotFoundError: nothing is there.
            BlobStoreUnavailableError: the store did not answer, also in the middle.
            ValueError: the range lies outside the object; a bucket tells so at the object's end.
        """

    def stream_files(self, location: str, offset: int, length: int) -> Iterator[bytes | FilePiece]:
        """Yield a range as `stream` does, in pieces of files where the store has any."""
        return self.stream(location, offset, length)

    @abstractmethod
    def read_many(self, location: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of several ranges, in the order asked, in as few requests as is sensible.

        Raises:
            BlobNotFoundError: nothing is there.
            ValueError: a range lies outside the object.
        """

    @abstractmethod
    def delete(self, location: str) -> None:
        """Remove what was committed there; nothing there is fine."""

    @abstractmethod
    def clear(self, location: str) -> None:
        """Remove what was committed there and what an interrupted write left: a temporary file, open uploads.

        For a location whose write was never recorded as done, when no writer can be at work there any more.
        """

    @abstractmethod
    def iter_locations(self) -> Iterator[str]:
        """Yield every location that holds something. For `fsck` only."""

    @abstractmethod
    def iter_keys(self) -> Iterator[str]:
        """Yield every key that the store holds, whatever is behind it (`objects/…`, `records/…`). For `fsck` only."""

    @abstractmethod
    def write_record(self, name: str, data: bytes) -> None:
        """Store a record, in place of the one that was there; a reader sees either whole.

        Raises:
            StorageFullError, BlobStoreUnavailableError: it was not stored; what was there is.
        """

    @abstractmethod
    def read_record(self, name: str) -> bytes:
        """Return a record.

        Raises:
            BlobNotFoundError: there is none.
        """

    @abstractmethod
    def delete_record(self, name: str) -> None:
        """Remove a record, or nothing."""

    @abstractmethod
    def registry_id(self) -> str | None:
        """Return the id of the registry that this store belongs to, None for an empty store."""

    @abstractmethod
    def claim(self, registry_id: str) -> str:
        """Record whose store this is and return the id that stands there.

        That is another id when somebody claimed the store before: it is not overwritten.
        """

    @abstractmethod
    def check(self) -> None:
        """Return when the store answers.

        Raises:
            BlobStoreUnavailableError: it does not; the detail says what to look at.
        """

    def presign_read(self, location: str, offset: int, length: int, ttl_seconds: int) -> SignedRequest:
        """Return a GET for exactly this range: another range, or none, is refused by the store.

        `length` is at least 1. Nothing is asked of the store, so the bytes may turn out to be missing.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot presign: bytes go through the service")

    def presign_object(self, location: str, disposition: str, ttl_seconds: int) -> SignedRequest:
        """Return a GET for all that was committed there, whole or in ranges.

        Args:
            location: of the object.
            disposition: the `Content-Disposition` that the store shall answer with; the media type is that of bytes.
            ttl_seconds: how long the URL lives.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot presign: bytes go through the service")
