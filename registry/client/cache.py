"""The content-addressed cache of this user: files under their SHA-256, written once, verified on entry, never changed.

    <cache>/v1/objects/sha256/ab/abcdef…     0444; appears by an atomic rename, goes by unlink
    <cache>/v1/tmp/                          what is being written; any process may die at any time
    <cache>/v1/versions/, manifests/         what was seen of services (`registry.client.seen`)

There are no locks: two processes that fetch the same bytes both write a file of their own, and the second rename
changes nothing. Open files and maps survive an unlink, so pruning never disturbs a training job.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from registry.client.verified_writing import FULL_DISK, VerifiedWriter
from registry.errors import ConfigurationError, StorageFullError

LAYOUT = "v1"
READ_BYTES = 1 << 20
STALE_TEMPORARY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A file of the cache: its digest (`sha256:…`), path, size in bytes and last use (seconds since the epoch)."""

    sha256: str
    path: Path
    size_bytes: int
    used_at: float


class CacheWriter(VerifiedWriter):
    """A file on its way into the cache: hashed as it is written, under its name only after `commit`."""

    def __init__(self, cache: "Cache", file: FileIO, temporary: Path, hasher: Executor) -> None:
        super().__init__(file, hasher, cache.translated_errors)
        self._cache = cache
        self._temporary = temporary

    def commit(self, sha256: str, size_bytes: int) -> Path:
        """Give the file its name if it is what was expected.

        Raises:
            SizeMismatchError, DigestMismatchError: it is not; nothing entered the cache.
            StorageFullError: the disk filled up.
        """
        self.finish(sha256, size_bytes)
        return self._cache.adopt(self._temporary, sha256)


class Cache:
    """Files by digest in one folder, shared by any number of processes without locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / LAYOUT

    def path_of(self, sha256: str) -> Path:
        """Return where a file with that digest (`sha256:…`) lies, or would."""
        digits = sha256.removeprefix("sha256:")
        return self.root / "objects" / "sha256" / digits[:2] / digits

    def find(self, sha256: str, size_bytes: int, *, verify: bool = False) -> Path | None:
        """Return the file, None if it is not here. A damaged one is unlinked and counts as absent.

        Args:
            sha256: the digest, `sha256:…`.
            size_bytes: the size it must have.
            verify: read it all and compare its digest too.
        """
        path = self.path_of(sha256)
        try:
            sound = path.stat().st_size == size_bytes and (not verify or hash_file(path) == sha256)
        except FileNotFoundError:
            return None
        if not sound:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # a read-only cache cannot record its use, and need not
            os.utime(path)
        return path

    @contextmanager
    def writer(self, expected_bytes: int = 0) -> Generator[CacheWriter]:
        """Open a file for writing; what is not committed leaves no trace.

        Raises:
            StorageFullError: `expected_bytes` do not fit.
            ConfigurationError: the folder cannot be written.
        """
        with self.translated_errors():
            temporary_folder = self.temporary_folder()
            free = shutil.disk_usage(temporary_folder).free
            if expected_bytes > free:
                raise self._full(f"{expected_bytes} bytes are needed, {free} are free")
            descriptor, name = tempfile.mkstemp(dir=temporary_folder)
        temporary = Path(name)
        try:
            # Unbuffered: a buffer would try to write again, and fail again, when the file is closed on a full disk.
            with FileIO(descriptor, "w") as file, ThreadPoolExecutor(1, "weighbridge-hash") as hasher:
                yield CacheWriter(self, file, temporary, hasher)
        finally:
            temporary.unlink(missing_ok=True)

    def temporary_folder(self) -> Path:
        """Return the folder for files on their way in, on the file system of the objects."""
        folder = self.root / "tmp"
        with self.translated_errors():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def adopt(self, file: Path, sha256: str) -> Path:
        """Move a complete, synced file of `temporary_folder()` with that digest to its name; return the new path."""
        path = self.path_of(sha256)
        with self.translated_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            file.chmod(0o444)
            file.replace(path)
        return path

    def iter_entries(self) -> Iterator[CacheEntry]:
        """Yield every file of the cache, in the order of its digest."""
        for path in sorted((self.root / "objects" / "sha256").glob("??/*")):
            with contextlib.suppress(FileNotFoundError):  # pruned by another process meanwhile
                status = path.stat()
                yield CacheEntry(f"sha256:{path.name}", path, status.st_size, status.st_mtime)

    def verify(self) -> Iterator[tuple[CacheEntry, bool]]:
        """Read every file again; yield it and whether it is sound. Damaged ones are unlinked: the next use fetches."""
        for entry in self.iter_entries():
            with contextlib.suppress(FileNotFoundError):
                sound = hash_file(entry.path) == entry.sha256
                if not sound:
                    entry.path.unlink(missing_ok=True)
                yield entry, sound

    def prune(self, unused_seconds: float) -> list[CacheEntry]:
        """Unlink what was not used for so long, and what dead processes left behind; return the entries gone."""
        now = time.time()
        gone = [entry for entry in self.iter_entries() if now - entry.used_at >= unused_seconds]
        for entry in gone:
            entry.path.unlink(missing_ok=True)
        for left in (self.root / "tmp").glob("*"):
            with contextlib.suppress(OSError):
                if now - left.stat().st_mtime >= STALE_TEMPORARY_SECONDS:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        return gone

    @contextmanager
    def translated_errors(self) -> Generator[None]:
        """Turn the system's errors about this folder into named ones."""
        try:
            yield
        except OSError as error:
            if error.errno in FULL_DISK:
                raise self._full(error.strerror or "disk full") from error
            raise ConfigurationError(
                f"The cache folder {self.folder} cannot be used ({error.strerror or error}). Set WEIGHBRIDGE_CACHE to "
                "a folder that you may write to."
            ) from error

    def _full(self, reason: str) -> StorageFullError:
        return StorageFullError(
            f"No room in the cache folder {self.folder} ({reason}); nothing was kept. Free some with `weighbridge "
            "cache prune`, or set WEIGHBRIDGE_CACHE to a folder on a larger disk."
        )


def hash_file(path: Path) -> str:
    """Return `sha256:…` of a file, reading 1 MiB at a time."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
