"""Repacking: what is left of an object that is mostly dead is written anew, while everybody goes on reading.

Dead are the bytes that no artifact has any more: purges leave them in objects that other versions share. Versions do
not change by it, only where their bytes lie. Who reads the old object has as long as any URL lives; later they ask
again where the bytes are.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from registry.errors import BlobNotFoundError
from registry.formats.source import ByteRange
from storage.access import Action, Caller
from storage.admission import admit
from storage.blobs.base import BlobWriter, new_location
from storage.garbage import COLLECTOR_LEASE, sweep_locations
from storage.garbage import LEASE as COLLECTING
from storage.metadata.records import Pack, Shrunk
from storage.push import BEAT_SECONDS, LEASE
from storage.stores import Stores

DEAD_SHARE = 0.5
DEAD_BYTES = 1 << 20
"""An object is written anew when more than this share of it, and more than this, is dead."""

log = logging.getLogger("weighbridge.garbage")


@dataclass(frozen=True, slots=True)
class Repacked:
    """What one repacking did, or would do.

    Attributes:
        ran: False when another process is collecting.
        repacked_objects: how many were written anew.
        repacked_bytes: how many bytes less are stored for it; the old objects go after a delay.
    """

    ran: bool = True
    repacked_objects: int = 0
    repacked_bytes: int = 0


def repack(stores: Stores, caller: Caller, *, dry_run: bool = False) -> Repacked:
    """Write anew what purges left mostly dead. One process at a time does it, and none that collects meanwhile.

    Each object is read whole and compared with its SHA-256 on the way, so that damage is never copied under a new
    digest: a damaged one is marked, as `fsck --repair` does.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        StorageFullError: there is no room for both the old and the new bytes; what was done stays.
        BlobStoreUnavailableError, CatalogUnavailableError: one does not answer.
    """
    admit(stores, caller, Action.ADMINISTER)
    holder = secrets.token_hex(8)
    keep_lease = partial(_take_lease, stores, holder)
    if not dry_run and not keep_lease():
        return Repacked(ran=False)
    count = dead_bytes = after = 0
    try:
        while (shrunk := stores.catalog.find_shrunk(after)) is not None:
            after = shrunk.stored.object_id
            dead = shrunk.stored.size_bytes - shrunk.live_bytes
            if not shrunk.live or dead <= max(DEAD_BYTES, DEAD_SHARE * shrunk.stored.size_bytes):
                if not dry_run:
                    stores.catalog.keep_shrunk(shrunk)
            elif dry_run or _rewrite(stores, caller, shrunk, keep_lease):
                count, dead_bytes = count + 1, dead_bytes + dead
    finally:
        if not dry_run:
            stores.catalog.release_lease(COLLECTOR_LEASE, holder)
    return Repacked(repacked_objects=count, repacked_bytes=dead_bytes)


def _rewrite(stores: Stores, caller: Caller, shrunk: Shrunk, keep_lease: Callable[[], bool]) -> bool:
    """Write an object anew; return False where it was damaged, or changed meanwhile: then it stays as it is."""
    old = shrunk.stored
    location = new_location()
    stores.catalog.begin_write(location, old.team, caller.name, _lease_end())
    try:
        new = _copy(stores, shrunk, location, _Beating(stores, location, keep_lease))
        return new is not None and stores.catalog.replace_object(old, shrunk.live, new)
    finally:
        sweep_locations(stores, [location], cancel=True)  # where no object took it


def _copy(stores: Stores, shrunk: Shrunk, location: str, beat: "_Beating") -> Pack | None:
    """Copy what is left of an object, reading all of it; None where it is damaged, which is then marked."""
    old = shrunk.stored
    whole = hashlib.sha256()
    with stores.blobs.create(location) as writer:
        with suppress(BlobNotFoundError):
            for piece in _copy_pieces(stores.blobs.stream(old.location), shrunk.live, writer):
                whole.update(piece)
                beat()
        if f"sha256:{whole.hexdigest()}" != old.sha256:
            stores.catalog.mark_damaged(old.object_id, old.location, datetime.now(UTC))
            log.error("An object is damaged; it was not written anew. `python -m api fsck` says whose it is.")
            return None
        written = writer.commit()
    return Pack(location, written.sha256, written.size_bytes)


def _copy_pieces(pieces: Iterator[bytes], live: Sequence[ByteRange], writer: BlobWriter) -> Iterator[bytes]:
    """Yield all pieces, once what lies in one of the ranges is written."""
    start = number = 0
    for piece in pieces:
        end = start + len(piece)
        while number < len(live) and live[number][0] < end:
            offset, length = live[number]
            writer.write(memoryview(piece)[max(offset - start, 0) : offset + length - start])
            if offset + length > end:
                break
            number += 1
        yield piece
        start = end


class _Beating:
    """Says now and then that a write, and whoever does it, is alive."""

    def __init__(self, stores: Stores, location: str, keep_lease: Callable[[], bool]) -> None:
        self._stores = stores
        self._location = location
        self._keep_lease = keep_lease
        self._next = time.monotonic() + BEAT_SECONDS

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + BEAT_SECONDS
        self._stores.catalog.extend_write([self._location], _lease_end())
        self._keep_lease()


def _take_lease(stores: Stores, holder: str) -> bool:
    return stores.catalog.acquire_lease(COLLECTOR_LEASE, holder, datetime.now(UTC) + COLLECTING)


def _lease_end() -> datetime:
    return datetime.now(UTC) + LEASE
