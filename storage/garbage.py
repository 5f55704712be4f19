"""Garbage: what rows say may go, goes. Nothing is ever found by listing the blob store."""

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from registry.errors import BlobNotFoundError, CollectionRefusedError, ConflictError, NotFoundError
from registry.sizes import format_size
from storage.access import Action, Caller
from storage.admission import admit
from storage.recording import write_due_records
from storage.stores import Stores

COLLECTOR_LEASE = "collector"
LEASE = timedelta(minutes=5)
SIGN_INS_KEPT = timedelta(days=30)
"""How long the rows of JWTs and sessions stay after their end, to look up what the audit names."""
UNEXPLAINED_SHARE = 0.2
UNEXPLAINED_BYTES = 64 << 20
"""A collection refuses to doom more than this share, and more than this, that no recorded deletion explains."""
_BATCH = 500

log = logging.getLogger("weighbridge.garbage")


@dataclass(frozen=True, slots=True)
class Collection:
    """What one collection did, or would do.

    Attributes:
        ran: False when another process is collecting.
        purged_versions: deleted versions whose grace period is over.
        expired_uploads: planned uploads that waited too long for their next part.
        expired_writes: files of uploads that never finished.
        unused_objects: objects that no version refers to any more; their bytes go after a delay. In a dry run also
            those that purging would free.
        unused_bytes: of these objects.
        removed_locations: locations whose bytes went, or would go.
        removed_bytes: at these locations.
        unexplained_bytes: of unused objects that no recorded purge explains.
        forgotten_keys: `Idempotency-Key`s that nobody may repeat any more.
        forgotten_tokens: JWTs of jobs and sessions of browsers that ended long ago.
    """

    ran: bool = True
    purged_versions: int = 0
    expired_uploads: int = 0
    expired_writes: int = 0
    unused_objects: int = 0
    unused_bytes: int = 0
    removed_locations: int = 0
    removed_bytes: int = 0
    unexplained_bytes: int = 0
    forgotten_keys: int = 0
    forgotten_tokens: int = 0


def collect(
    stores: Stores, caller: Caller, *, dry_run: bool = False, is_forced: bool = False, now: datetime | None = None
) -> Collection:
    """Doom what has expired and what nothing refers to, and delete bytes that were doomed long enough ago.

    One process at a time does it, by a lease row.

    A purge dooms what it frees by itself, and marks what only an open upload still holds. An object that nothing holds
    and that no purge marked is what no recorded deletion explains: the rows that held it were lost, as they are after
    half a restore. When such objects make up more than a fifth of all stored bytes, and more than 64 MiB, nothing at
    all is collected unless it is forced.

    Args:
        stores: of the installation.
        caller: who asks.
        dry_run: only say what would be done.
        is_forced: collect whatever the rows say.
        now: the time to go by; else the real one.

    Raises:
        CollectionRefusedError: more would go than recorded deletions explain.
    """
    admit(stores, caller, Action.ADMINISTER)
    clock = (lambda: now) if now is not None else _now
    if dry_run:
        return _foresee(stores, clock())
    holder = secrets.token_hex(8)
    if not stores.catalog.acquire_lease(COLLECTOR_LEASE, holder, _now() + LEASE):
        return Collection(ran=False)
    try:
        unexplained = _require_explained(stores, is_forced=is_forced)
        done = replace(_collect(stores, caller, holder, clock), unexplained_bytes=unexplained)
        write_due_records(stores, now=now)
        return done
    finally:
        stores.catalog.release_lease(COLLECTOR_LEASE, holder)


def _require_explained(stores: Stores, *, is_forced: bool) -> int:
    """Return how many bytes would go that no recorded deletion explains.

    Raises:
        CollectionRefusedError: they are too many.
    """
    unexplained = stores.catalog.sum_unexplained()
    if unexplained <= UNEXPLAINED_BYTES or is_forced:
        return unexplained
    stored = stores.catalog.sum_stored()
    if unexplained > UNEXPLAINED_SHARE * stored:
        raise CollectionRefusedError(
            f"Nothing was collected: of {format_size(stored)} stored, {format_size(unexplained)} belong to no version, "
            "and nobody purged them. Was the database restored in part, or were rows lost? `python -m api fsck` says "
            "what is wrong; `python -m api gc --force` deletes these bytes for good.",
            unexplained_bytes=unexplained,
            stored_bytes=stored,
        )
    return unexplained


def _foresee(stores: Stores, now: datetime) -> Collection:
    """Return what a collection would do, with the sizes of what it would remove as the store says them."""
    found = stores.catalog.count_garbage(now, now - stores.grace)
    removed = removed_bytes = 0
    after = ""
    while locations := stores.catalog.list_removable(now, after, _BATCH):
        removed_bytes += sum(map(partial(_size, stores), locations))
        removed, after = removed + len(locations), locations[-1]
    return Collection(
        purged_versions=found.purgeable_versions,
        expired_writes=found.expired_writes,
        unused_objects=found.unused_objects,
        unused_bytes=found.unused_bytes,
        removed_locations=removed,
        removed_bytes=removed_bytes,
        unexplained_bytes=stores.catalog.sum_unexplained(),
        forgotten_keys=found.expired_keys,
    )


def _collect(stores: Stores, caller: Caller, holder: str, clock: Callable[[], datetime]) -> Collection:
    catalog = stores.catalog
    purged, freed_bytes = _purge_expired(stores, caller, holder, clock)
    expired = unused = removed = removed_bytes = forgotten = tokens = 0
    uploads = _end_uploads(stores, clock)
    while batch := catalog.doom_expired_writes(clock(), _BATCH):
        expired += batch
    while (doomed := catalog.doom_unused_objects(clock(), _BATCH)).object_count:
        unused, freed_bytes = unused + doomed.object_count, freed_bytes + doomed.size_bytes
    while batch := catalog.forget_expired_keys(clock(), _BATCH):
        forgotten += batch
    while batch := catalog.forget_passed_tokens(clock() - SIGN_INS_KEPT, _BATCH):
        tokens += batch
    while locations := catalog.list_doomed(clock(), _BATCH):
        removed_bytes += sum(map(partial(_size, stores), locations))
        _remove(stores, locations)
        removed += len(locations)
        if not catalog.acquire_lease(COLLECTOR_LEASE, holder, _now() + LEASE):
            break
    return Collection(
        purged_versions=purged,
        expired_uploads=uploads,
        expired_writes=expired,
        unused_objects=unused,
        unused_bytes=freed_bytes,
        removed_locations=removed,
        removed_bytes=removed_bytes,
        forgotten_keys=forgotten,
        forgotten_tokens=tokens,
    )


def _end_uploads(stores: Stores, clock: Callable[[], datetime]) -> int:
    """End planned uploads whose time is up, forget those that ended long ago; return how many expired."""
    expired = 0
    while batch := stores.catalog.expire_uploads(clock(), _BATCH):
        expired += batch
    while stores.catalog.forget_uploads(clock(), _BATCH):
        pass
    return expired


def _purge_expired(stores: Stores, caller: Caller, holder: str, clock: Callable[[], datetime]) -> tuple[int, int]:
    """Purge what was deleted longer ago than the grace period; return how many versions, and the bytes they freed."""
    purged, freed_bytes, reason = 0, 0, f"deleted for more than {stores.grace.days} days"
    while batch := stores.catalog.list_expired_versions(clock() - stores.grace, _BATCH):
        for team, model, number in batch:
            with suppress(NotFoundError, ConflictError):  # somebody restored or purged it meanwhile
                freed_bytes += stores.catalog.purge_version(team, model, number, caller.actor, reason).freed_bytes
                purged += 1
        if not stores.catalog.acquire_lease(COLLECTOR_LEASE, holder, _now() + LEASE):
            break
    return purged, freed_bytes


def sweep_locations(stores: Stores, locations: Sequence[str], *, cancel: bool) -> None:
    """Delete those of the locations that are doomed, with their rows. Others are left alone: a version has them.

    Args:
        stores: where they are.
        locations: of one push.
        cancel: end the writes to them first: the push failed.
    """
    if cancel:
        for location in locations:
            stores.catalog.cancel_write(location)
    for start in range(0, len(locations), _BATCH):
        batch = locations[start : start + _BATCH]
        _remove(stores, stores.catalog.list_doomed(_now(), len(batch), among=batch))


def _remove(stores: Stores, locations: Sequence[str]) -> None:
    for location in locations:
        stores.blobs.clear(location)
    if locations:
        stores.catalog.forget_doomed(locations)


def _size(stores: Stores, location: str) -> int:
    """Return how many bytes were committed at a location; 0 for what was never finished."""
    try:
        return stores.blobs.size_bytes(location)
    except BlobNotFoundError:
        return 0


def _now() -> datetime:
    return datetime.now(UTC)
