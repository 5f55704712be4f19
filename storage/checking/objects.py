"""Is every object there, with the size and, where that is wanted, the bytes that were verified once."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

from registry.errors import BlobNotFoundError
from storage.checking.batches import iter_batches
from storage.checking.findings import Finding, Kind
from storage.metadata.records import StoredObject
from storage.stores import Stores

PARALLEL = 8
"""Objects that are asked for at a time: a bucket takes milliseconds to say that something is there."""
_BATCH = 200


class Damage(NamedTuple):
    """What is wrong with an object, in one sentence."""

    kind: Kind
    detail: str


def check_objects(stores: Stores, *, reads_bytes: bool, repairs: bool) -> Iterator[Finding]:
    """Yield what is wrong with objects. What looks wrong is looked at again, for a collection may be running.

    A repair marks what is wrong as damaged, and takes the mark from what is whole again. Objects with that mark are
    always read.
    """
    with ThreadPoolExecutor(PARALLEL, "fsck") as pool:
        for batch in iter_batches(stores.catalog.iter_objects(), _BATCH):

            def look(stored: StoredObject) -> Damage | None:
                return find_damage(stores, stored, reads_bytes=reads_bytes or stored.is_damaged)

            for stored, damage in zip(batch, pool.map(look, batch), strict=True):
                if damage is not None or stored.is_damaged:
                    yield from _look_again(stores, stored, reads_bytes=reads_bytes, repairs=repairs)


def find_damage(stores: Stores, stored: StoredObject, *, reads_bytes: bool) -> Damage | None:
    """Return what is wrong with an object; None where nothing is.

    Raises:
        BlobStoreUnavailableError: the store does not answer, so nothing can be said.
    """
    try:
        size_bytes = stores.blobs.size_bytes(stored.location)
        if size_bytes != stored.size_bytes:
            return Damage(Kind.OBJECT_WRONG_SIZE, f"It has {size_bytes} bytes, {stored.size_bytes} were stored.")
        actual = _sha256(stores, stored.location) if reads_bytes else stored.sha256
    except BlobNotFoundError:
        return Damage(Kind.OBJECT_MISSING, f"Nothing is there; {stored.size_bytes} bytes were stored.")
    if actual != stored.sha256:
        return Damage(Kind.OBJECT_CHANGED, f"Its bytes are {actual}, those that were stored are {stored.sha256}.")
    return None


def _look_again(stores: Stores, before: StoredObject, *, reads_bytes: bool, repairs: bool) -> Iterator[Finding]:
    stored = stores.catalog.find_object(before.object_id)
    if stored is None:
        return  # collected meanwhile
    damage = find_damage(stores, stored, reads_bytes=reads_bytes or stored.is_damaged)
    if damage is None:
        if stored.is_damaged and repairs:
            stores.catalog.mark_damaged(stored.object_id, stored.location, None)
        return
    repair = "it is marked as damaged" if stored.is_damaged else None
    if repairs and stores.catalog.mark_damaged(stored.object_id, stored.location, datetime.now(UTC)):
        repair = "it was marked as damaged"
    elif repairs and not stored.is_damaged:
        return  # collected, or mended, in this moment
    holders = stores.catalog.find_holders(stored.object_id)
    yield Finding.of_object(damage.kind, stored.location, damage.detail, holders, repair)


def _sha256(stores: Stores, location: str) -> str:
    sha256 = hashlib.sha256()
    for piece in stores.blobs.stream(location):
        sha256.update(piece)
    return f"sha256:{sha256.hexdigest()}"
