"""Gathering an object in a local folder: a file of its full size that parts are written into, and a journal of them.

`tmp/NAME` holds the bytes. `tmp/NAME.parts` gets a line when a part is begun and one when all of it is on the disk.
Whoever writes a part holds a shared lock on the first file, whoever completes the object the exclusive one: nothing is
written any more into what is being verified, whichever process it came through.
"""

import errno
import fcntl
import os
import struct
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from mmap import MAP_PRIVATE, mmap
from pathlib import Path

from registry.errors import (
    BlobStoreUnavailableError,
    IncompleteUploadError,
    SizeMismatchError,
    UploadEndedError,
)
from storage.blobs.gathering import Gathering, Part, PartWriter
from storage.blobs.local_files import put_in_place, require_room, translated

COMPLETE_SECONDS = 60.0
"""How long completing waits for parts that are still being written: none that belongs to the object is."""
GATHERED_BYTES = 256 << 10
"""Read at once of what was gathered: still near the processor when it is digested."""
_PIECES_AT_ONCE = 64
"""What every system takes in one call is 16; Linux takes 1,024."""
_LINE = struct.Struct(">cI")
_BEGUN, _KEPT = b"b", b"k"


class LocalGathering(Gathering):
    """The part of the local store that gathers objects.

    Args:
        reserve_bytes: what stays free on the disk.
    """

    reads_gathered = True

    def __init__(self, reserve_bytes: int) -> None:
        self._reserve_bytes = reserve_bytes

    @abstractmethod
    def _path(self, location: str) -> Path:
        """Return where an object is readable."""

    @abstractmethod
    def _temporary_path(self, location: str) -> Path:
        """Return where it is gathered."""

    def begin_multipart(self, location: str, size_bytes: int) -> str:
        """Make the file, as long as it will be; its disk space is taken as the parts come."""
        path = self._temporary_path(location)
        with translated(path.parent, missing=BlobStoreUnavailableError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                require_room(path.parent, descriptor, self._reserve_bytes + size_bytes)
                os.ftruncate(descriptor, size_bytes)
            except BaseException:
                path.unlink()
                raise
            finally:
                os.close(descriptor)
            os.close(os.open(_journal_of(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return path.name

    def open_part(self, location: str, multipart_id: str, number: int, offset: int, length: int) -> PartWriter:
        """Return where the bytes of a part go."""
        del multipart_id  # a location has one gathering
        path = self._temporary_path(location)
        with _ended_when_gone(path):
            return LocalPartWriter(path, number, offset, length, self._reserve_bytes)

    def list_parts(self, location: str, multipart_id: str) -> list[Part]:
        """Return the parts that were kept and not begun again since."""
        del multipart_id
        last = {number: what for what, number in self._read_journal(location)}
        return [Part(number) for number, what in sorted(last.items()) if what == _KEPT]

    def is_rewritten(self, location: str, multipart_id: str) -> bool:
        """Return whether some part was begun more than once."""
        del multipart_id
        begun = Counter(number for what, number in self._read_journal(location) if what == _BEGUN)
        return any(times > 1 for times in begun.values())

    def iter_gathered(self, location: str, offset: int, length: int) -> Iterator[memoryview]:
        """Yield bytes of parts that are there, in one buffer."""
        buffer = memoryview(mmap(-1, GATHERED_BYTES, MAP_PRIVATE))
        with _ended_when_gone(self._temporary_path(location)) as path:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while length:
                    size = os.preadv(descriptor, [buffer[:length]], offset)
                    if not size:
                        raise UploadEndedError("The upload was ended while its bytes were read.")
                    offset, length = offset + size, length - size
                    yield buffer[:size]
            finally:
                os.close(descriptor)

    def complete_multipart(self, location: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Give the file its name once nobody writes to it."""
        path, place = self._temporary_path(location), self._path(location)
        if not place.exists():
            if [each.number for each in self._parts_or_none(location, multipart_id)] != [each.number for each in parts]:
                raise IncompleteUploadError("Not all parts of the object are there. Send the missing ones again.")
            with translated(path.parent, missing=BlobStoreUnavailableError):
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    _lock_alone(descriptor)
                    put_in_place(descriptor, path, place)
                finally:
                    os.close(descriptor)
        self._drop_gathered(path)

    def abort_multipart(self, location: str, multipart_id: str) -> None:
        """Drop the file and its journal."""
        del multipart_id
        with translated(self._temporary_path(location)) as path:
            self._drop_gathered(path)

    def _parts_or_none(self, location: str, multipart_id: str) -> list[Part]:
        with suppress(UploadEndedError):
            return self.list_parts(location, multipart_id)
        return []

    def _read_journal(self, location: str) -> list[tuple[bytes, int]]:
        with _ended_when_gone(self._temporary_path(location)) as path:
            journal = _journal_of(path).read_bytes()
        return list(_LINE.iter_unpack(journal[: len(journal) // _LINE.size * _LINE.size]))

    def _drop_gathered(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        _journal_of(path).unlink(missing_ok=True)


class LocalPartWriter(PartWriter):
    """Writes one part to its place in the file."""

    def __init__(self, path: Path, number: int, offset: int, length: int, reserve_bytes: int) -> None:
        self._path = path
        self._number = number
        self._offset = offset
        self._end = offset + length
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _lock_shared(self._descriptor)
            require_room(path.parent, self._descriptor, reserve_bytes + length)
            self._note(_BEGUN)
        except BaseException:
            self.close()
            raise

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write bytes behind those before."""
        for start in range(0, len(pieces), _PIECES_AT_ONCE):
            self._write(pieces[start : start + _PIECES_AT_ONCE])

    def _write(self, pieces: Sequence[bytes | memoryview]) -> None:
        size = sum(map(len, pieces))
        if self._offset + size > self._end:
            raise SizeMismatchError("The part is longer than its upload's plan says. Send exactly its bytes.")
        with translated(self._path.parent, missing=BlobStoreUnavailableError):
            written = os.pwritev(self._descriptor, pieces, self._offset)
            if written < size:  # a system may take less than it is given
                rest = memoryview(b"".join(pieces))[written:]
                while rest:
                    rest = rest[os.pwrite(self._descriptor, rest, self._offset + size - len(rest)) :]
        self._offset += size

    def keep(self) -> None:
        """Bring the bytes to the disk, then say so in the journal."""
        if self._offset != self._end:
            raise SizeMismatchError("The part is shorter than its upload's plan says. Send it again.")
        with translated(self._path.parent, missing=BlobStoreUnavailableError), _ended_when_gone(self._path):
            os.fdatasync(self._descriptor)
            self._note(_KEPT)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _note(self, what: bytes) -> None:
        """Add a line to the journal, which the system does in one step."""
        journal = os.open(_journal_of(self._path), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(journal, _LINE.pack(what, self._number))
        finally:
            os.close(journal)


def _journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


@contextmanager
def _ended_when_gone(path: Path) -> Generator[Path]:
    """Say that the upload has ended where its file is gone."""
    try:
        yield path
    except FileNotFoundError as error:
        raise UploadEndedError("The upload has ended and takes no bytes any more. Begin a new one.") from error


def _lock_shared(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UploadEndedError("The upload is being verified and takes no bytes any more.") from error


def _lock_alone(descriptor: int) -> None:
    """Wait until nobody writes a part; later ones see that the upload has ended."""
    deadline = time.monotonic() + COMPLETE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            if time.monotonic() >= deadline:
                raise BlobStoreUnavailableError(
                    "A part of the upload is still being written, though all are there. Complete it again later."
                ) from error
            time.sleep(0.05)
        else:
            return
