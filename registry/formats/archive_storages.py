"""The storages of an archive: each is a record of its own, of exactly the size that the pickle says."""

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.inspection import StorageRecord
from registry.formats.storages import StorageTable, storage_bytes

_SMALL_BYTES = 64


def find_storages(archive: Archive, table: StorageTable, *places: str) -> dict[str, StorageRecord]:
    """Return the storages of a table by key.

    Args:
        archive: holds their records.
        table: what a pickle refers to.
        places: how their records may be called, with `{}` for the key (`data/{}`).

    Raises:
        MalformedArtifactError: a record is missing, of another size, or does not inflate to it.
    """
    big_endian = is_big_endian(archive)
    records: dict[str, StorageRecord] = {}
    for key, ref in table.found.items():
        own_key, entry = table.own_key(key), None
        for place in places:
            entry = entry or archive.entries.get(place.format(own_key))
        size = storage_bytes(ref)
        if entry is None:
            raise MalformedArtifactError(f"The record of storage {key} is missing.")
        if entry.size != size:
            raise MalformedArtifactError(f"Storage {key} has {entry.size} bytes, the pickle says {size}.")
        offset = archive.data_offset(entry)
        if offset is None:
            archive.check_inflates(entry)
        records[key] = StorageRecord(key, size, offset, entry.name, big_endian, ref.location)
    return records


def is_big_endian(archive: Archive) -> bool:
    """Return whether the elements of all storages must be swapped on read.

    Raises:
        MalformedArtifactError: the archive says something else than `little` or `big`.
    """
    order = archive.read("byteorder", _SMALL_BYTES) if "byteorder" in archive.entries else b"little"
    if order not in {b"little", b"big"}:
        raise MalformedArtifactError("The record `byteorder` says neither `little` nor `big`.")
    return order == b"big"
