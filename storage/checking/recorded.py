"""Is every version written down in its record, and does the record say what the rows say."""

from collections.abc import Iterator

from registry.errors import BlobNotFoundError
from storage.checking.findings import Finding, Kind
from storage.metadata.record_shapes import encode_record, record_name
from storage.recording import write_due_records
from storage.stores import Stores

_BATCH = 500
_DETAILS = {
    Kind.RECORD_MISSING: "What it tells could not be rebuilt if the database were lost.",
    Kind.RECORD_STALE: "It says something else than the database.",
}


def check_records(stores: Stores, *, reads_bytes: bool, repairs: bool) -> Iterator[Finding]:
    """Yield the records that are missing or, where they are read, stale; a repair writes them again."""
    for model_id, number, team, model in _iter_recorded(stores):
        kind = _find_fault(stores, model_id, number, reads_bytes=reads_bytes)
        # Looked at again: it may be written in this moment.
        if kind is None or not stores.catalog.is_recorded(model_id, number):
            continue
        if _find_fault(stores, model_id, number, reads_bytes=reads_bytes) is None:
            continue
        if not stores.catalog.is_recorded(model_id, number):
            continue
        if repairs:
            stores.catalog.write_record_again(model_id, number)
        where = record_name(team, model, number)
        repair = "it is written again" if repairs else None
        yield Finding(kind, where, _DETAILS[kind], repair=repair, is_mended=repairs)
    if repairs:
        write_due_records(stores)


def _iter_recorded(stores: Stores) -> Iterator[tuple[int, int, str, str]]:
    last = 0
    while models := stores.catalog.list_recorded_models(last, _BATCH):
        for model_id, team, model in models:
            last = model_id
            yield model_id, 0, team, model
    after = (0, 0)
    while versions := stores.catalog.list_recorded(after, _BATCH):
        for key, team, model in versions:
            after = key
            yield *key, team, model


def _find_fault(stores: Stores, model_id: int, number: int, *, reads_bytes: bool) -> Kind | None:
    described = stores.catalog.describe_record(model_id, number)
    if described.record is None:
        return None
    name = record_name(described.team, described.model, described.number)
    try:
        stored = stores.blobs.read_record(name)
    except BlobNotFoundError:
        return Kind.RECORD_MISSING
    return Kind.RECORD_STALE if reads_bytes and stored != encode_record(described.record) else None
