"""What every bucket has in common: keys, parts, and few ranged reads at a time.

A backend supplies the `Bucket` of its library; the semantics of the store are only here, so that two libraries
cannot drift apart.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from registry.errors import (
    BlobNotFoundError,
    BlobStoreUnavailableError,
    ConfigurationError,
    IncompleteUploadError,
    TooLargeError,
)
from registry.formats.source import ByteRange
from storage.blobs.base import (
    RECORDS,
    BlobStore,
    BlobWriter,
    check_location,
    check_record_name,
    is_location,
)
from storage.blobs.bucket import Bucket
from storage.blobs.bucket_gathering import MAX_PARTS, BucketGathering
from storage.blobs.ranges import Run, check_form, plan_runs
from storage.blobs.signed import SignedRequest

if TYPE_CHECKING:
    from storage.blobs.gathering import Part

DEFAULT_PART_BYTES = 16 << 20
"""What a writer holds in memory. With 10,000 parts, objects reach 156 GiB."""
MAX_GAP_BYTES = 1 << 20
"""Ranges closer than this are read together: dropping a MiB is faster than another request."""
MAX_RUN_BYTES = 8 << 20
PARALLEL_READS = 4

_PREFIX = re.compile(r"[A-Za-z0-9._/-]*")


class BucketBlobStore(BucketGathering, BlobStore):
    """Objects `PREFIX/objects/LOCATION` in a bucket, whatever library talks to it.

    Args:
        bucket: the calls.
        prefix: a folder in the bucket, when it is shared with something else.
        part_bytes: size of the parts that writers send, 5 MiB at least by S3's rules.
    """

    can_presign = True

    def __init__(self, bucket: Bucket, prefix: str = "", part_bytes: int = DEFAULT_PART_BYTES) -> None:
        if not _PREFIX.fullmatch(prefix) or ".." in prefix or "//" in prefix:
            raise ConfigurationError(f"{prefix!r} is no usable prefix in a bucket: use letters, digits, `._-` and `/`.")
        folder = prefix.strip("/")
        self._bucket = bucket
        self._folder = f"{folder}/" if folder else ""
        self._part_bytes = part_bytes

    def create(self, location: str, *, expected_sha256: str | None = None) -> BlobWriter:
        """Return a writer for `location` that holds at most one part in memory."""
        return BucketBlobWriter(self._bucket, self._key(location), self._part_bytes, expected_sha256)

    def size_bytes(self, location: str) -> int:
        """Return the size of what was committed there."""
        return self._bucket.size_bytes(self._key(location))

    def stream(self, location: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a range in pieces; a connection that breaks in the middle is taken up again."""
        key = self._key(location)
        check_form([(offset, length or 0)])
        if length == 0 or (length is None and offset):
            # S3 knows no empty range and refuses one that begins at the end.
            rest = self._bytes_after(key, offset)
            length = rest if length is None else 0
        position, end = offset, None if length is None else offset + length
        while position != end:
            begun = position
            try:
                for piece in self._bucket.get(key, position, None if end is None else end - position):
                    position += len(piece)
                    yield piece
            except BlobStoreUnavailableError:
                if position == begun:
                    raise
                continue
            if end is not None and position < end:
                raise ValueError(f"bytes {offset} to {end} lie outside an object of {position} bytes")
            return

    def read_many(self, location: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of several ranges, near ones in one request, a few requests at a time."""
        check_form(ranges)
        if not all(length for _, length in ranges):
            size = self.size_bytes(location)
            if any(offset + length > size for offset, length in ranges):
                raise ValueError(f"a range lies outside an object of {size} bytes")
        runs = plan_runs(ranges, max_gap_bytes=MAX_GAP_BYTES, max_run_bytes=MAX_RUN_BYTES)
        found = [b""] * len(ranges)

        def read(run: Run) -> None:
            data = memoryview(b"".join(self.stream(location, run.offset, run.length)))
            for index in run.members:
                offset, length = ranges[index]
                found[index] = bytes(data[offset - run.offset : offset - run.offset + length])

        if len(runs) == 1:
            read(runs[0])
        elif runs:
            with ThreadPoolExecutor(min(PARALLEL_READS, len(runs)), "blob-read") as pool:
                list(pool.map(read, runs))
        return found

    def delete(self, location: str) -> None:
        """Remove what was committed there."""
        self._bucket.delete(self._key(location))

    def clear(self, location: str) -> None:
        """Remove what was committed there and the multipart uploads of interrupted writes."""
        for upload_id in self._bucket.list_upload_ids(self._key(location)):
            self.abort_multipart(location, upload_id)
        self.delete(location)

    def iter_locations(self) -> Iterator[str]:
        """Yield every location that holds something."""
        prefix = f"{self._folder}objects/"
        for key in self._bucket.iter_keys(prefix):
            location = key.removeprefix(prefix)
            if is_location(location):
                yield location

    def iter_keys(self) -> Iterator[str]:
        """Yield every key below the prefix, without it."""
        for key in self._bucket.iter_keys(self._folder):
            yield key.removeprefix(self._folder)

    def write_record(self, name: str, data: bytes) -> None:
        """Store a record in one request."""
        self._bucket.put(self._record_key(name), data)

    def read_record(self, name: str) -> bytes:
        """Return a record."""
        return b"".join(self._bucket.get(self._record_key(name), 0, None))

    def delete_record(self, name: str) -> None:
        """Remove a record."""
        self._bucket.delete(self._record_key(name))

    def registry_id(self) -> str | None:
        """Return the id of the registry that this store belongs to."""
        try:
            return b"".join(self._bucket.get(self._marker, 0, None)).decode("ascii").strip()
        except BlobNotFoundError:
            return None

    def claim(self, registry_id: str) -> str:
        """Record whose store this is and return the id that stands there."""
        standing = self.registry_id()
        if standing is None:
            self._bucket.put(self._marker, f"{registry_id}\n".encode("ascii"), only_if_absent=True)
            standing = self.registry_id() or registry_id
        return standing

    def check(self) -> None:
        """Return when the bucket is there and lets us in."""
        self._bucket.check()

    def presign_read(self, location: str, offset: int, length: int, ttl_seconds: int) -> SignedRequest:
        """Return a GET for exactly this range."""
        check_form([(offset, length - 1)])
        return self._bucket.presign_get(self._key(location), offset, length, ttl_seconds)

    def presign_object(self, location: str, disposition: str, ttl_seconds: int) -> SignedRequest:
        """Return a GET for all that was committed there."""
        return self._bucket.presign_object(self._key(location), disposition, ttl_seconds)

    @property
    def _marker(self) -> str:
        return f"{self._folder}registry-id"

    def _key(self, location: str) -> str:
        return f"{self._folder}objects/{check_location(location)}"

    def _record_key(self, name: str) -> str:
        return f"{self._folder}{RECORDS}{check_record_name(name)}"

    def _bytes_after(self, key: str, offset: int) -> int:
        size = self._bucket.size_bytes(key)
        if offset > size:
            raise ValueError(f"byte {offset} lies outside an object of {size} bytes")
        return size - offset


class BucketBlobWriter(BlobWriter):
    """A write that fills one part at a time: a small object is one request, a larger one a multipart upload."""

    def __init__(self, bucket: Bucket, key: str, part_bytes: int, expected_sha256: str | None) -> None:
        super().__init__(expected_sha256)
        self._bucket = bucket
        self._key = key
        self._part_bytes = part_bytes
        self._part = bytearray()
        self._upload_id: str | None = None
        self._parts: list[Part] = []
        self._published = False

    def _append(self, view: memoryview) -> None:
        with _upload_of_ours():
            taken = 0
            while taken < len(view):
                # A full part is sent when more follows, so that what fits into one part is one request.
                if len(self._part) == self._part_bytes:
                    self._send_part()
                room = self._part_bytes - len(self._part)
                self._part += view[taken : taken + room]
                taken += room

    def _send_part(self) -> None:
        if self._upload_id is None:
            self._upload_id = self._bucket.begin_upload(self._key)
        number = len(self._parts) + 1
        if number > MAX_PARTS:
            raise TooLargeError(
                f"The object is larger than {MAX_PARTS} parts of {self._part_bytes} bytes. Let the service send "
                "larger parts (its part size is a setting)."
            )
        self._parts.append(self._bucket.send_part(self._key, self._upload_id, number, self._part))
        self._part = bytearray()

    def _publish(self) -> None:
        self._published = True
        if self._upload_id is None:
            self._bucket.put(self._key, self._part)
        else:
            with _upload_of_ours():
                self._send_part()
                self._complete(self._upload_id)
        self._part = bytearray()

    def _complete(self, upload_id: str) -> None:
        """Join the parts, and look at the result: its ETag says nothing about the content."""
        lost: BlobStoreUnavailableError | IncompleteUploadError | None = None
        try:
            self._bucket.complete_upload(self._key, upload_id, self._parts)
        except (BlobStoreUnavailableError, IncompleteUploadError) as error:
            lost = error
        try:
            size = self._bucket.size_bytes(self._key)
        except BlobNotFoundError:
            size = None
        if size != self._size_bytes:
            raise lost or BlobStoreUnavailableError(
                f"The bucket joined {self._size_bytes} bytes into an object of {size}. Nothing was kept; send again, "
                "and look at the bucket's server."
            )

    def _discard(self) -> None:
        self._part = bytearray()
        with suppress(BlobStoreUnavailableError, IncompleteUploadError):
            if self._upload_id is not None:
                self._bucket.abort_upload(self._key, self._upload_id)
        with suppress(BlobStoreUnavailableError):
            if self._published:
                self._bucket.delete(self._key)


@contextmanager
def _upload_of_ours() -> Generator[None, None, None]:
    """Blame the bucket, not the client, when an upload that a writer has opened is gone."""
    try:
        yield
    except IncompleteUploadError as error:
        raise BlobStoreUnavailableError(
            f"The bucket lost an upload in the middle; send again. {error.detail}"
        ) from error
