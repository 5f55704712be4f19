"""Backup and restore: all rows as text, then every object that they name, each verified as it is copied."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registry.errors import BlobNotFoundError, ConfigurationError, ConflictError, DigestMismatchError, StorageFullError
from storage.access import Action, Caller
from storage.admission import admit
from storage.blobs.base import check_location
from storage.garbage import COLLECTOR_LEASE, sweep_locations
from storage.metadata.dump import iter_dumped
from storage.metadata.records import StoredObject
from storage.metadata.tables import ObjectRow
from storage.stores import Stores

ROWS_FILE = "catalog.jsonl"
OBJECTS_FOLDER = "objects"
_LEASE = timedelta(minutes=10)
_INTENT = timedelta(hours=24)
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup or restore copied; objects that were there already are not counted."""

    object_count: int
    size_bytes: int


def backup(stores: Stores, caller: Caller, folder: Path) -> Copied:
    """Write a backup into a folder; the service may run meanwhile. A second one into it copies only what is new.

    While it runs nothing is collected, so no object that the rows name can go. The rows' file appears last: a folder
    with one is a whole backup.

    Raises:
        ConflictError: garbage is being collected right now.
        BlobNotFoundError, DigestMismatchError: an object is missing or damaged; the backup is not finished.
    """
    admit(stores, caller, Action.ADMINISTER)
    lease = _Lease(stores)
    with lease.held(), _naming_disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = folder / f"{ROWS_FILE}.unfinished"
        with unfinished.open("w+", encoding="ascii") as file:
            stores.catalog.dump(file)
            file.flush()
            os.fsync(file.fileno())
        count = size_bytes = 0
        for each in _objects(unfinished):
            lease.renew()
            place = folder / OBJECTS_FOLDER / check_location(each.location)
            if not place.exists() or place.stat().st_size != each.size_bytes:
                _save(stores, each, place)
                count, size_bytes = count + 1, size_bytes + each.size_bytes
        unfinished.replace(folder / ROWS_FILE)
        stores.catalog.note(caller.actor, "installation.backup")
    return Copied(count, size_bytes)


def restore(stores: Stores, caller: Caller, folder: Path, *, keep_tokens: bool = False) -> Copied:
    """Bring a backup into an empty installation, whatever database and blob store it has.

    The objects come first, each verified; then all rows at once. When it fails, nothing of it is left. The
    installation keeps its own id. Tokens do not work again unless they are kept: some may have been revoked since.

    Raises:
        ConfigurationError: the folder holds no finished backup, or one of another schema.
        ConflictError: something was done here already.
        DigestMismatchError, BlobNotFoundError: an object of the backup is damaged or missing.
    """
    admit(stores, caller, Action.ADMINISTER)
    rows = folder / ROWS_FILE
    if not rows.is_file():
        raise ConfigurationError(f"{folder} holds no finished backup: there is no {ROWS_FILE}.")
    if not stores.catalog.is_empty():
        raise ConflictError(
            "A backup is restored into an empty installation only, and something was done in this one: a service that "
            "starts makes an administrator. Use a database that was migrated and never served."
        )
    written: list[str] = []
    size_bytes = 0
    try:
        for each in _objects(rows):
            written.append(each.location)
            _bring_back(stores, caller, each, folder / OBJECTS_FOLDER / check_location(each.location))
            size_bytes += each.size_bytes
        stores.catalog.load(_Lines(rows), caller.actor, keep_tokens=keep_tokens)
    except BaseException:
        sweep_locations(stores, written, cancel=True)
        raise
    return Copied(len(written), size_bytes)


class _Lines:
    """The lines of a file, from the start each time that they are iterated."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[str]:
        with self._path.open(encoding="ascii") as file:
            yield from file


class _Lease:
    """Keeps the collector away."""

    def __init__(self, stores: Stores) -> None:
        self._catalog = stores.catalog
        self._holder = f"backup-{secrets.token_hex(8)}"
        self._until = datetime.now(UTC)

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Hold the lease during a block."""
        self.renew()
        try:
            yield
        finally:
            self._catalog.release_lease(COLLECTOR_LEASE, self._holder)

    def renew(self) -> None:
        """Take or extend the lease, when it is about to end."""
        now = datetime.now(UTC)
        if self._until - now > _LEASE / 2:
            return
        if not self._catalog.acquire_lease(COLLECTOR_LEASE, self._holder, now + _LEASE):
            raise ConflictError("Garbage is being collected, or another backup runs. Try again in a minute.")
        self._until = now + _LEASE


def _objects(rows: Path) -> Iterator[StoredObject]:
    for row in iter_dumped(_Lines(rows), ObjectRow):
        yield StoredObject(row["location"], row["team"], row["sha256"], row["size_bytes"])


def _save(stores: Stores, stored: StoredObject, place: Path) -> None:
    """Copy an object into the backup; it appears whole and verified, or not at all."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = place.with_name(f"{place.name}.unfinished")
    sha256 = hashlib.sha256()
    with unfinished.open("wb") as file:
        for piece in stores.blobs.stream(stored.location):
            sha256.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    actual = f"sha256:{sha256.hexdigest()}"
    if actual != stored.sha256:
        unfinished.unlink()
        raise DigestMismatchError(
            f"The object at {stored.location} is damaged: it was {stored.sha256} and is {actual} now. Bring that file "
            "back from an older backup.",
            expected=stored.sha256,
            actual=actual,
        )
    unfinished.replace(place)


def _bring_back(stores: Stores, caller: Caller, stored: StoredObject, place: Path) -> None:
    if not place.is_file():
        raise BlobNotFoundError(f"The backup lacks {place.name}, which its rows name. Nothing was restored.")
    stores.catalog.begin_write(stored.location, stored.team, caller.name, datetime.now(UTC) + _INTENT)
    with stores.blobs.create(stored.location, expected_sha256=stored.sha256) as writer, place.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            writer.write(piece)
        writer.commit()


@contextlib.contextmanager
def _naming_disk_errors(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFullError(f"The backup cannot be written to {folder}: {error.strerror}.") from error
