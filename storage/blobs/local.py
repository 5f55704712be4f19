"""Blobs in a local folder: one file a location, written beside and linked into place."""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.errors import BlobStoreUnavailableError
from registry.formats.source import ByteRange
from storage.blobs.base import (
    READ_PIECE_BYTES,
    RECORDS,
    BlobStore,
    BlobWriter,
    FilePiece,
    check_location,
    check_record_name,
    is_location,
)
from storage.blobs.local_files import put_in_place, require_room, sync_folder, translated
from storage.blobs.local_gathering import LocalGathering
from storage.blobs.ranges import check_form

DEFAULT_RESERVE_BYTES = 64 << 20
"""Room kept free, so that deleting and the database still work when the disk is full."""

FILE_PIECE_BYTES = 8 << 20
"""After each piece of a file it is looked at whether its reader may have more."""

_FAN_OUT = re.compile(r"[0-9a-f]{2}")


class LocalBlobStore(LocalGathering, BlobStore):
    """Files below `root/objects`, readable by the service's user only.

    A write goes to `root/tmp`, is synced, and is then linked to its place, so a power cut leaves all of it or
    nothing. Both folders must be on one file system, and that must have hard links.

    Args:
        root: made when it is not there.
        reserve_bytes: a write is refused while less than this would stay free.

    Raises:
        BlobStoreUnavailableError: the folder cannot be made.
    """

    streams_files = True

    def __init__(self, root: Path, reserve_bytes: int = DEFAULT_RESERVE_BYTES) -> None:
        super().__init__(reserve_bytes)
        self._root = root.absolute()
        self._objects = self._root / "objects"
        self._temporary = self._root / "tmp"
        self._marker = self._root / "registry-id"
        with translated(self._root):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._objects.mkdir(mode=0o700, exist_ok=True)
            self._temporary.mkdir(mode=0o700, exist_ok=True)

    def create(self, location: str, *, expected_sha256: str | None = None) -> BlobWriter:
        """Return a writer for `location`."""
        temporary, place = self._temporary_path(location), self._path(location)
        return LocalBlobWriter(temporary, place, self._reserve_bytes, expected_sha256)

    def size_bytes(self, location: str) -> int:
        """Return the size of what was committed there."""
        with translated(self._path(location)) as path:
            return path.stat().st_size

    def stream(self, location: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a range in pieces."""
        with self._opened(location) as (descriptor, size):
            end = size if length is None else offset + length
            _check_inside([(offset, end - offset)], size)
            while offset < end:
                piece = _read(descriptor, offset, min(READ_PIECE_BYTES, end - offset))
                offset += len(piece)
                yield piece

    def stream_files(self, location: str, offset: int, length: int) -> Iterator[FilePiece]:
        """Yield a range in pieces of its file."""
        with self._opened(location) as (descriptor, size):
            _check_inside([(offset, length)], size)
            for start in range(offset, offset + length, FILE_PIECE_BYTES):
                yield FilePiece(descriptor, start, min(FILE_PIECE_BYTES, offset + length - start))

    def read_many(self, location: str, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of several ranges."""
        with self._opened(location) as (descriptor, size):
            _check_inside(ranges, size)
            return [_read_all(descriptor, offset, length) for offset, length in ranges]

    def delete(self, location: str) -> None:
        """Remove what was committed there."""
        with translated(self._path(location)) as path:
            path.unlink(missing_ok=True)

    def clear(self, location: str) -> None:
        """Remove what was committed there and the temporary files of an interrupted write."""
        self.delete(location)
        self.abort_multipart(location, "")

    def iter_locations(self) -> Iterator[str]:
        """Yield every location that holds something, in ascending order."""
        with translated(self._objects):
            for outer in _sorted_names(self._objects):
                for inner in _sorted_names(self._objects / outer):
                    for name in sorted(path.name for path in (self._objects / outer / inner).iterdir()):
                        location = f"{outer}/{inner}/{name}"
                        if is_location(location):
                            yield location

    def iter_keys(self) -> Iterator[str]:
        """Yield the path of every file below the root, a folder at a time."""
        with translated(self._root):
            for folder, folders, files in os.walk(self._root):
                folders.sort()
                for name in sorted(files):
                    yield (Path(folder) / name).relative_to(self._root).as_posix()

    def write_record(self, name: str, data: bytes) -> None:
        """Store a record: beside its place, synced, then moved there."""
        place = self._record_path(name)
        # The same name each time: what a write leaves that was killed, the next one takes away.
        temporary = self._temporary / f"record-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        with translated(place.parent, missing=BlobStoreUnavailableError):
            try:
                _write_file(temporary, data)
                for folder in (place.parent.parent.parent, place.parent.parent, place.parent):
                    with suppress(FileExistsError):
                        folder.mkdir(mode=0o700)
                        sync_folder(folder.parent)
                temporary.replace(place)
                sync_folder(place.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def read_record(self, name: str) -> bytes:
        """Return a record."""
        with translated(self._record_path(name)) as path:
            return path.read_bytes()

    def delete_record(self, name: str) -> None:
        """Remove a record."""
        with translated(self._record_path(name)) as path:
            path.unlink(missing_ok=True)

    def registry_id(self) -> str | None:
        """Return the id of the registry that this store belongs to."""
        with translated(self._marker) as path:
            return path.read_text("ascii").strip() if path.exists() else None

    def claim(self, registry_id: str) -> str:
        """Record whose store this is and return the id that stands there."""
        temporary = self._temporary / f"registry-id-{secrets.token_hex(8)}"
        with translated(self._marker):
            try:
                _write_file(temporary, f"{registry_id}\n".encode("ascii"))
                with suppress(FileExistsError):
                    os.link(temporary, self._marker)
                sync_folder(self._root)
            finally:
                temporary.unlink(missing_ok=True)
        return self.registry_id() or registry_id

    def check(self) -> None:
        """Return when the folder is there and can be written to."""
        for folder in (self._objects, self._temporary):
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise BlobStoreUnavailableError(
                    f"The folder {folder} is missing or not writable for this user: look whether its disk is "
                    "mounted and who owns it."
                )

    def _path(self, location: str) -> Path:
        return self._objects / check_location(location)

    def _record_path(self, name: str) -> Path:
        return self._root / RECORDS / check_record_name(name)

    def _temporary_path(self, location: str) -> Path:
        return self._temporary / check_location(location).rpartition("/")[2]

    @contextmanager
    def _opened(self, location: str) -> Generator[tuple[int, int], None, None]:
        """Open what is at `location` and give its descriptor and size."""
        with translated(self._path(location)) as path:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                yield descriptor, os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)


class LocalBlobWriter(BlobWriter):
    """A write to a temporary file, which is named after its location so that it can be found after a crash."""

    def __init__(self, temporary: Path, place: Path, reserve_bytes: int, expected_sha256: str | None) -> None:
        super().__init__(expected_sha256)
        self._temporary = temporary
        self._place = place
        self._reserve_bytes = reserve_bytes
        with translated(temporary.parent, missing=BlobStoreUnavailableError):
            self._descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _append(self, view: memoryview) -> None:
        with translated(self._temporary.parent):
            require_room(self._temporary.parent, self._descriptor, self._reserve_bytes + len(view))
            written = 0
            while written < len(view):
                written += os.write(self._descriptor, view[written:])

    def _publish(self) -> None:
        put_in_place(self._descriptor, self._temporary, self._place)
        self._discard()

    def _discard(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(OSError):  # a temporary file that cannot be removed now is removed by `clear`
            self._temporary.unlink(missing_ok=True)


def _check_inside(ranges: Sequence[ByteRange], size: int) -> None:
    check_form(ranges)
    for offset, length in ranges:
        if offset + length > size:
            raise ValueError(f"bytes {offset} to {offset + length} lie outside an object of {size} bytes")


def _read(descriptor: int, offset: int, length: int) -> bytes:
    piece = os.pread(descriptor, length, offset)
    if not piece:
        raise BlobStoreUnavailableError("A stored file became shorter while it was read: somebody changed it.")
    return piece


def _read_all(descriptor: int, offset: int, length: int) -> bytes:
    pieces: list[bytes] = []
    while length:
        piece = _read(descriptor, offset, length)
        pieces.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_file(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sorted_names(folder: Path) -> list[str]:
    """Return the names of the fan-out folders in `folder`."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if _FAN_OUT.fullmatch(entry.name) and stat.S_ISDIR(entry.stat().st_mode)
        )
