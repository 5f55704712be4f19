"""Fetching a file from anywhere: streamed, bounded, verified, and continued where a killed process stopped.

    <cache>/v1/tmp/import-<digest of the URL>.part     what has arrived
    <cache>/v1/tmp/import-<digest of the URL>.json     of which state of the file (its ETag or date)
    <cache>/v1/imports/<digest of the URL>.json        the state and digest of what arrived last, to ask for changes

No token of the service, and none of the user's other secrets, is ever sent.
"""

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

from registry.client.cache import Cache, blake3_file, hash_file
from registry.errors import ConflictError, DigestMismatchError
from registry.importing.arriving import Download, State, Wanted, read_state, write_state
from registry.importing.sources import check_source_url


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that arrived, verified and in the cache: `sha256:…`."""

    path: Path
    sha256: str


def fetch(cache: Cache, wanted: Wanted) -> Fetched:
    """Return a file of the web, from the cache when it has not changed there.

    Raises:
        InvalidRequestError: the URL, or one that it leads to, may not be fetched.
        NotFoundError, PermissionDeniedError: the host does not give it.
        TooLargeError: it is larger than is taken.
        DigestMismatchError: it is not what it should be; nothing was kept.
        UnavailableError: the host does not answer, or breaks off again and again. What arrived is kept for a day.
        ConflictError: another process fetches it right now.
        StorageFullError: the disk is full.
    """
    check_source_url(wanted.url)
    name = hashlib.sha256(wanted.url.encode()).hexdigest()
    part = cache.temporary_folder() / f"import-{name}.part"
    memory = cache.root / "imports" / f"{name}.json"
    with cache.translated_errors(), _alone(part, wanted.url) as file:
        known = read_state(memory)
        kept = _find_kept(cache, known)
        download = Download(wanted, file, part.with_suffix(".json"), known if kept else State())
        state = download.run()
        if state is None and kept is not None and known.sha256 is not None:
            part.unlink()
            check_digest(known.sha256, wanted, None)
            return Fetched(kept, known.sha256)
        os.fsync(file.fileno())
        digest = hash_file(part)
        part.with_suffix(".json").unlink(missing_ok=True)
        try:
            check_digest(digest, wanted, download.announced)
        except DigestMismatchError:
            part.unlink()
            raise
        named = blake3_file(part)
        path = cache.adopt(part, named)
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_state(memory, replace(state or State(), sha256=digest, blake3=named))
    return Fetched(path, digest)


def check_digest(sha256: str, wanted: Wanted, announced: str | None) -> None:
    """Compare a digest (`sha256:…`) with what was asked for, and with what the host announced.

    Raises:
        DigestMismatchError: it is another.
    """
    for should in (wanted.sha256_start, announced):
        if should and not sha256.startswith(f"sha256:{should.lower()}"):
            raise DigestMismatchError(
                f"What arrived from {wanted.url} has the digest {sha256}, and should have one that begins with "
                f"{should}. Nothing was imported."
            )


@contextmanager
def _alone(part: Path, url: str) -> Generator[FileIO]:
    """Open the partial file at its end, for this process only.

    Raises:
        ConflictError: another process has it.
    """
    with FileIO(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        # Whoever had it may just have moved it into the cache under its digest: then this is no partial file any more.
        if not (_lock(file) and part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat())):
            raise ConflictError(f"Another process fetches {url} right now. Wait for it, then run the command again.")
        file.seek(0, os.SEEK_END)
        yield file


def _lock(file: FileIO) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: two imports of one URL at once end in a digest mismatch there
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _find_kept(cache: Cache, known: State) -> Path | None:
    path = cache.path_of(known.blake3) if known.sha256 and known.blake3 else None
    return path if path is not None and path.is_file() and hash_file(path) == known.sha256 else None
