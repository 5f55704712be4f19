"""The content-addressed cache of this user: files under their BLAKE3, written once, verified on entry, never changed.

    <cache>/v1/objects/blake3/ab/abcdef…     0444; appears by an atomic rename, goes by unlink
    <cache>/v1/indexes/                      which storages they hold (`registry.client.storage_index`)
    <cache>/v1/tmp/                          what is being written (`registry.client.partial`)
    <cache>/v1/locks/                        who fetches what (`registry.client.holding`)
    <cache>/v1/versions/, manifests/         what was seen of services (`registry.client.seen`)

A file is named by what was computed of it here, so what one service says can never become the content of another's.
Any process may die at any time. Open files and maps survive an unlink, so pruning never disturbs a training job.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from registry.client.verified_writing import FULL_DISK
from registry.errors import ConfigurationError, StorageFullError

LAYOUT = "v1"
READ_BYTES = 1 << 20
BLAKE3_BYTES = 8 << 20
STALE_TEMPORARY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A file of the cache: its digest, path, size in bytes and last use (seconds since the epoch).

    The digest is `blake3:…`; `sha256:…` of what an older client left, which nothing uses any more.
    """

    digest: str
    path: Path
    size_bytes: int
    used_at: float


class Cache:
    """Files by digest in one folder, shared by any number of processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / LAYOUT

    def path_of(self, digest: str) -> Path:
        """Return where a file with that digest (`blake3:…`) lies, or would."""
        algorithm, _, digits = digest.partition(":")
        return self.root / "objects" / algorithm / digits[:2] / digits

    def lock_of(self, digest: str) -> Path:
        """Return the lock of whoever fetches a file with that digest (`blake3:…`)."""
        return self.root / "locks" / digest.partition(":")[2]

    def index_of(self, digest: str) -> Path:
        """Return where it is written down which storages the file with that digest (`blake3:…`) holds, or would be."""
        return self.root / "indexes" / digest.partition(":")[2]

    def remove(self, digest: str) -> None:
        """Unlink a file and its index; what is not there is no matter."""
        self.path_of(digest).unlink(missing_ok=True)
        self.index_of(digest).unlink(missing_ok=True)

    def find(self, digest: str, size_bytes: int, *, verify: bool = False) -> Path | None:
        """Return the file, None if it is not here. A damaged one is unlinked and counts as absent.

        Args:
            digest: the digest, `blake3:…`.
            size_bytes: the size it must have.
            verify: read it all and compare its digest too.

        Raises:
            ConfigurationError: what is damaged cannot be read, or not be removed.
        """
        path = self.path_of(digest)
        try:
            is_sound = path.stat().st_size == size_bytes
        except OSError:  # not there, or not for us to see: who writes here is told what is wrong with the folder
            return None
        with self.translated_errors():
            try:
                is_sound = is_sound and (not verify or blake3_file(path) == digest)
            except FileNotFoundError:  # pruned by another process meanwhile
                return None
            if not is_sound:
                self.remove(digest)
                return None
        with contextlib.suppress(OSError):  # a read-only cache cannot record its use, and need not
            os.utime(path)
        return path

    def require_room(self, needed_bytes: int) -> None:
        """Return when so many bytes fit.

        Raises:
            StorageFullError: they do not.
            ConfigurationError: the folder cannot be written.
        """
        free = shutil.disk_usage(self.temporary_folder()).free
        if needed_bytes > free:
            raise self._full(f"{needed_bytes} bytes are needed, {free} are free")

    def temporary_folder(self) -> Path:
        """Return the folder for files on their way in, on the file system of the objects."""
        folder = self.root / "tmp"
        with self.translated_errors():
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def adopt(self, file: Path, digest: str) -> Path:
        """Move a complete, synced file of `temporary_folder()` with that digest to its name; return the new path."""
        path = self.path_of(digest)
        with self.translated_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            file.chmod(0o444)
            file.replace(path)
        return path

    def iter_entries(self) -> Iterator[CacheEntry]:
        """Yield every file of the cache, in the order of its digest."""
        for algorithm in ("blake3", "sha256"):
            for path in sorted((self.root / "objects" / algorithm).glob("??/*")):
                with contextlib.suppress(FileNotFoundError):  # pruned by another process meanwhile
                    status = path.stat()
                    yield CacheEntry(f"{algorithm}:{path.name}", path, status.st_size, status.st_mtime)

    def verify(self) -> Iterator[tuple[CacheEntry, bool]]:
        """Read every file again; yield it and whether it is sound. Damaged ones are unlinked: the next use fetches."""
        for entry in self.iter_entries():
            with contextlib.suppress(FileNotFoundError):
                compute = blake3_file if entry.digest.startswith("blake3:") else hash_file
                sound = compute(entry.path) == entry.digest
                if not sound:
                    self.remove(entry.digest)
                yield entry, sound

    def prune(
        self, *, unused_seconds: float | None = None, max_bytes: int | None = None, dry_run: bool = False
    ) -> list[CacheEntry]:
        """Unlink what was not used for so long, then what was used longest ago until the rest is small enough.

        What dead processes left behind goes too; what is being written stays. `dry_run` removes nothing.

        Returns:
            the entries that go, those used longest ago first.
        """
        now = time.time()
        entries = sorted(self.iter_entries(), key=lambda entry: entry.used_at)
        left = sum(each.size_bytes for each in entries)
        gone: list[CacheEntry] = []
        for entry in entries:
            is_old = unused_seconds is not None and now - entry.used_at >= unused_seconds
            if is_old or (max_bytes is not None and left > max_bytes):
                gone.append(entry)
                left -= entry.size_bytes
        if not dry_run:
            for entry in gone:
                self.remove(entry.digest)
            self._remove_leftovers(now)
        return gone

    def _remove_leftovers(self, now: float) -> None:
        for left in [*(self.root / "tmp").glob("*"), *(self.root / "locks").glob("*")]:
            with contextlib.suppress(OSError):
                if now - left.stat().st_mtime >= STALE_TEMPORARY_SECONDS:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        for index in (self.root / "indexes").glob("*"):
            with contextlib.suppress(OSError):
                if now - index.stat().st_mtime >= STALE_TEMPORARY_SECONDS and not self._has_file(index.name):
                    index.unlink()

    def _has_file(self, digits: str) -> bool:
        return self.path_of(f"blake3:{digits}").exists()

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


def blake3_file(path: Path) -> str:
    """Return `blake3:…` of a file, by all cores, reading 8 MiB at a time."""
    hasher = blake3(max_threads=blake3.AUTO)
    buffer = bytearray(BLAKE3_BYTES)
    with path.open("rb", buffering=0) as file, memoryview(buffer) as view:
        while count := file.readinto(buffer):
            hasher.update(view[:count])
    return f"blake3:{hasher.hexdigest()}"
