"""Writing records: what is known of each version, beside the objects, for when the database is lost.

The rows say which records are to be written, since the transaction that changed something; what cannot be written now
is written later. Nobody waits for it, and nothing fails because of it.
"""

import logging
from datetime import UTC, datetime, timedelta

from registry.errors import BlobStoreUnavailableError, StorageFullError, WeighbridgeError
from storage.metadata.record_shapes import encode_record, record_name
from storage.metadata.recording import Due
from storage.stores import Stores

CLAIM = timedelta(minutes=10)
"""How long nobody else writes what one process began to write: longer than a blob store may be silent."""
RETRY = timedelta(seconds=30)
_BATCH = 50

log = logging.getLogger("weighbridge.records")


def write_due_records(stores: Stores, *, now: datetime | None = None) -> int:
    """Write the records that are due, and remove those of purged versions; return how many.

    What the blob store does not take stays due, and ends it for now: the log says why.

    Raises:
        CatalogUnavailableError: the database does not answer.
    """
    done = 0
    while True:
        clock = now or datetime.now(UTC)
        claimed = stores.catalog.claim_records(clock, clock + CLAIM, _BATCH)
        if not claimed:
            return done
        written = _write(stores, claimed)
        missed = [due for due in claimed if due not in written]
        stores.catalog.finish_records(written, missed, datetime.now(UTC) + RETRY)
        done += len(written)
        if missed:
            return done


def _write(stores: Stores, claimed: list[Due]) -> list[Due]:
    """Write records, until the store takes none; return those that were written."""
    written: list[Due] = []
    for due in claimed:
        try:
            _write_one(stores, due)
        except WeighbridgeError as error:
            log.warning("A record is written later: %s", error.detail)
            if isinstance(error, BlobStoreUnavailableError | StorageFullError):
                break
        else:
            written.append(due)
    return written


def _write_one(stores: Stores, due: Due) -> None:
    described = stores.catalog.describe_record(due.model_id, due.number)
    name = record_name(described.team, described.model, described.number)
    if described.record is None:
        stores.blobs.delete_record(name)
    else:
        stores.blobs.write_record(name, encode_record(described.record))
