"""A file on its way into the cache: written in any order, hashed from its beginning as that arrives, found again.

    <cache>/v1/tmp/pull-<digest>-<host>-<process>-<random>/data       the bytes, where they belong
                                                           journal    `offset length` of what is there, a line each
                   whole-<random>                                     complete, for whoever moves it out of the cache

Whoever works at one has a folder of its own. One whose owner died is taken over by renaming the folder, and goes on
where it stopped. A wrong journal costs a second download: whatever it says, the whole file is hashed before it counts.
"""

import hashlib
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path

from registry.client.answers import Incoming
from registry.client.cache import Cache
from registry.client.growing_copy import GrowingCopy
from registry.client.landed import Landed
from registry.client.landing import Landing
from registry.client.places import PlacedFile
from registry.client.prefix_hash import PrefixHash
from registry.client.storage_index import StorageIndex, held_of
from registry.errors import DigestMismatchError
from registry.formats.source import ByteRange

ABANDONED_SECONDS = 600.0
"""Without a heartbeat, by any clock that writes to the folder."""
_FREE = "0"
"""Instead of a process: its owner gave it up."""


class PartialFile:
    """A file of `size_bytes` that somebody fetches; whether it is what was wanted, is for those that come of it to say.

    Several threads may write at once.

    Args:
        cache: where it is.
        name: 64 digits that say what is wanted; whoever wants the same goes on with what was left.
        size_bytes: of the whole.
    """

    def __init__(self, cache: Cache, name: str, size_bytes: int) -> None:
        self._cache = cache
        self._size_bytes = size_bytes
        self._name = f"pull-{name}"
        self.folder = cache.temporary_folder() / f"{self._name}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._is_continued = self._take_over()
        with cache.translated_errors():
            self.folder.mkdir(exist_ok=True)
            self._file = PlacedFile(self.folder / "data")
            self._journal = FileIO(self.folder / "journal", "a")
        self._landed = self._read_journal()
        try:
            cache.require_room(size_bytes - self._landed.size_bytes)
            with cache.translated_errors():
                self._file.resize(size_bytes)
        except BaseException:
            self.discard()
            raise

    @property
    def size_bytes(self) -> int:
        """How many bytes are there."""
        return self._landed.size_bytes

    def missing(self) -> list[ByteRange]:
        """Return what is not there yet, in order."""
        return self._landed.missing(self._size_bytes)

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes where they belong; `note` makes them count.

        Raises:
            StorageFullError: there is no room for them.
        """
        with self._cache.translated_errors():
            self._file.write(offset, data)

    def receive(self, incoming: Incoming, landing: Landing, offset: int, most_bytes: int) -> int:
        """Put what comes next of an answer where it belongs, and return how much that was; `note` makes it count.

        Raises:
            StorageFullError: there is no room for it.
            ServerUnreachableError: the connection broke.
        """
        with self._cache.translated_errors():
            return landing.move(incoming, self._file, offset, most_bytes)

    def note(self, offset: int, length: int) -> None:
        """Take down that these bytes were written."""
        with self._cache.translated_errors():
            self._journal.write(f"{offset} {length}\n".encode("ascii"))
        self._landed.add(offset, length)

    def discard(self) -> None:
        """Leave nothing."""
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def leave(self) -> None:
        """Leave what is there to whoever comes next."""
        self._close()
        with suppress(OSError):
            self.folder.rename(self.folder.with_name(f"{self._name}-{_host()}-{_FREE}-{secrets.token_hex(4)}"))

    def beat(self) -> None:
        """Show that somebody works at it."""
        with suppress(OSError):
            os.utime(self.folder)

    def _adopt(self, digest: str) -> Path:
        """Give the file, which has that digest, its name in the cache."""
        with self._cache.translated_errors():
            self._file.sync()
        path = self._cache.adopt(self.folder / "data", digest)
        self.discard()
        return path

    def _release(self) -> Path:
        """Give the file a name of its own, which whoever asked for it moves to where it is wanted."""
        path = self.folder.with_name(f"whole-{secrets.token_hex(8)}")
        with self._cache.translated_errors():
            self._file.sync()
            (self.folder / "data").rename(path)
        self.discard()
        return path

    def _refuse(self, found: str, digest: str) -> None:
        """Begin anew what went on from something wrong.

        Raises:
            DigestMismatchError: it was fetched from its beginning; nothing is kept of it.
        """
        if self._is_continued:
            self._begin_anew()
            return
        self.discard()
        raise DigestMismatchError(
            f"What arrived has the digest {found}, not {digest}: it was damaged on its way or in the store. "
            "Try again; if it stays, what is stored is damaged: tell the operator of the service."
        )

    def _begin_anew(self) -> None:
        self._is_continued = False
        with self._cache.translated_errors():
            os.truncate(self.folder / "journal", 0)
        self._landed.clear()

    def _close(self) -> None:
        for file in (self._file, self._journal):
            with suppress(OSError):
                file.close()

    def _take_over(self) -> bool:
        """Move what somebody abandoned here, where there is something."""
        found = [(_journal_bytes(each), each) for each in self.folder.parent.glob(f"{self._name}-*")]
        for _, folder in sorted(found, reverse=True):
            if _is_abandoned(folder):
                with suppress(OSError):  # somebody else was faster
                    folder.rename(self.folder)
                    return True
        return False

    def _read_journal(self) -> Landed:
        landed = Landed()
        if self._file.size_bytes == self._size_bytes:
            lines = (self.folder / "journal").read_bytes().split(b"\n")[:-1]  # the last may have been cut
            for words in (line.split() for line in lines):
                if len(words) == 2 and all(word.isdigit() for word in words):  # noqa: PLR2004 - offset and length
                    offset, length = int(words[0]), int(words[1])
                    if offset + length <= self._size_bytes:
                        landed.add(offset, length)
        return landed


class Partial(PartialFile):
    """A file whose content is `digest` (`blake3:…`) once it is complete.

    Args:
        cache: where it is.
        digest: of the whole.
        size_bytes: of the whole.
        storages: ranges of it that are digested on the way.
        copy: gets all bytes that are digested.
        keeps: whether the cache holds it afterwards.
    """

    def __init__(
        self,
        cache: Cache,
        digest: str,
        size_bytes: int,
        storages: Sequence[ByteRange] = (),
        copy: GrowingCopy | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        self._digest = digest
        self._storages = storages
        self._copy = copy
        self._keeps = keeps
        self._hashing: PrefixHash | None = None
        super().__init__(cache, digest.removeprefix("blake3:"), size_bytes)
        self._hashing = self._begin_hashing()

    def finish(self) -> Path | None:
        """Give the complete file its name, in the cache where it is kept, and return that; None when it begins anew.

        That is where it went on from something wrong.

        Raises:
            DigestMismatchError: it is something else; nothing is kept of it.
            StorageFullError: the disk filled up.
        """
        if self._hashing is None:
            raise AssertionError
        with self._cache.translated_errors():
            digests = self._hashing.finish()
        if digests.blake3 != self._digest:
            self._refuse(digests.blake3, self._digest)
            return None
        if not self._keeps:
            return self._release()
        if self._storages:
            held = held_of(self._storages, digests.find_range)
            StorageIndex(self._cache).add(self._digest, self._size_bytes, held)
        return self._adopt(self._digest)

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._hashing = self._begin_hashing()

    def _begin_hashing(self) -> PrefixHash:
        return PrefixHash(self._file, self._landed, self._size_bytes, self._storages, self._copy)

    def _close(self) -> None:
        if self._hashing is not None:
            self._hashing.stop()
        super()._close()


def _is_abandoned(folder: Path) -> bool:
    """Return whether nobody works at a folder: its process ended here, or nothing was heard of it for long."""
    host, process, _ = folder.name.rsplit("-", 3)[1:]
    if process == _FREE or (host == _host() and not _is_alive(int(process))):
        return True
    try:
        return time.time() - folder.stat().st_mtime > ABANDONED_SECONDS
    except OSError:
        return False


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _journal_bytes(folder: Path) -> int:
    try:
        return (folder / "journal").stat().st_size
    except OSError:
        return 0


def _host() -> str:
    """Return what names this machine, since it started, and the numbers of processes that are valid here."""
    words = [socket.gethostname()]
    with suppress(OSError):
        words.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
        words.append(str(Path("/proc/self/ns/pid").stat().st_ino))  # containers have processes of their own
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]
