"""Garbage: what rows say may go, goes. Nothing is ever found by listing the blob store."""

import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from registry.errors import ConflictError, NotFoundError
from storage.access import Action, Caller
from storage.admission import admit
from storage.stores import Stores

COLLECTOR_LEASE = "collector"
LEASE = timedelta(minutes=5)
SIGN_INS_KEPT = timedelta(days=30)
"""How long the rows of JWTs and sessions stay after their end, to look up what the audit names."""
_BATCH = 500

log = logging.getLogger("weighbridge.garbage")


@dataclass(frozen=True, slots=True)
class Collection:
    """What one collection did, or would do.

    Attributes:
        ran: False when another process is collecting.
        purged_versions: deleted versions whose grace period is over.
        expired_writes: uploads that never finished.
        unused_objects: objects that no version refers to any more; their bytes go after a delay.
        removed_locations: locations whose bytes went, or would go.
        forgotten_keys: `Idempotency-Key`s that nobody may repeat any more.
        forgotten_tokens: JWTs of jobs and sessions of browsers that ended long ago.
    """

    ran: bool = True
    purged_versions: int = 0
    expired_writes: int = 0
    unused_objects: int = 0
    removed_locations: int = 0
    forgotten_keys: int = 0
    forgotten_tokens: int = 0


def collect(stores: Stores, caller: Caller, *, dry_run: bool = False) -> Collection:
    """Doom what has expired and what nothing refers to, and delete bytes that were doomed long enough ago.

    One process at a time does it, by a lease row.
    """
    admit(stores, caller, Action.ADMINISTER)
    if dry_run:
        found = stores.catalog.count_garbage(_now())
        return Collection(
            expired_writes=found.expired_writes,
            unused_objects=found.unused_objects,
            removed_locations=found.expired_writes + found.due_locations,
            forgotten_keys=found.expired_keys,
        )
    holder = secrets.token_hex(8)
    if not stores.catalog.acquire_lease(COLLECTOR_LEASE, holder, _now() + LEASE):
        return Collection(ran=False)
    try:
        return _collect(stores, caller, holder)
    finally:
        stores.catalog.release_lease(COLLECTOR_LEASE, holder)


def _collect(stores: Stores, caller: Caller, holder: str) -> Collection:
    catalog = stores.catalog
    purged = _purge_expired(stores, caller, holder)
    expired = unused = removed = forgotten = tokens = 0
    while batch := catalog.doom_expired_writes(_now(), _BATCH):
        expired += batch
    while batch := catalog.doom_unused_objects(_now(), _BATCH).object_count:
        unused += batch
    while batch := catalog.forget_expired_keys(_now(), _BATCH):
        forgotten += batch
    while batch := catalog.forget_passed_tokens(_now() - SIGN_INS_KEPT, _BATCH):
        tokens += batch
    while locations := catalog.list_doomed(_now(), _BATCH):
        _remove(stores, locations)
        removed += len(locations)
        if not catalog.acquire_lease(COLLECTOR_LEASE, holder, _now() + LEASE):
            break
    return Collection(
        purged_versions=purged,
        expired_writes=expired,
        unused_objects=unused,
        removed_locations=removed,
        forgotten_keys=forgotten,
        forgotten_tokens=tokens,
    )


def _purge_expired(stores: Stores, caller: Caller, holder: str) -> int:
    """Purge what was deleted longer ago than the grace period; return how many versions."""
    purged, reason = 0, f"deleted for more than {stores.grace.days} days"
    while batch := stores.catalog.list_expired_versions(_now() - stores.grace, _BATCH):
        for team, model, number in batch:
            with suppress(NotFoundError, ConflictError):  # somebody restored or purged it meanwhile
                stores.catalog.purge_version(team, model, number, caller.actor, reason)
                purged += 1
        if not stores.catalog.acquire_lease(COLLECTOR_LEASE, holder, _now() + LEASE):
            break
    return purged


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


def _now() -> datetime:
    return datetime.now(UTC)
