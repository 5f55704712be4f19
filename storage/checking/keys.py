"""Does some row account for every key in the store. What none knows is told, and never touched."""

import re
from collections.abc import Iterator, Sequence

from registry.errors import BlobNotFoundError
from storage.blobs.base import RECORDS, is_location
from storage.checking.batches import iter_batches
from storage.checking.findings import Finding, Kind
from storage.stores import Stores

_BATCH = 500
_MARKER = "registry-id"
_OBJECTS = "objects/"
_UNFINISHED = re.compile(r"tmp/([0-9a-f]{32})(?:\.parts)?")
_FLEETING = re.compile(r"tmp/(?:record|registry-id)-[0-9a-f]{16}")
_RECORD = re.compile(rf"{RECORDS}([^/]+)/([^/]+)/([1-9][0-9]{{0,18}}|model)\.json")


def check_keys(stores: Stores) -> Iterator[Finding]:
    """Yield the keys in the store that no row knows. Those of running uploads, and doomed ones, are known."""
    for batch in iter_batches(stores.blobs.iter_keys(), _BATCH):
        keys = [key for key in batch if key != _MARKER and not _FLEETING.fullmatch(key)]
        yield from _check_records(stores, keys)
        places = {key: _location(key) for key in keys if not _RECORD.fullmatch(key)}
        locations = [location for location in places.values() if location is not None]
        known = stores.catalog.find_known(locations)
        for key, location in places.items():
            if location is None or (location not in known and _is_stranger(stores, key, location)):
                yield Finding(Kind.KEY_UNKNOWN, key, "No row knows it. It is left alone: nothing of it is used.")


def _location(key: str) -> str | None:
    """Return the location that a key is for; None for a key that no store of ours writes."""
    unfinished = _UNFINISHED.fullmatch(key)
    if unfinished:
        name = unfinished[1]
        return f"{name[:2]}/{name[2:4]}/{name}"
    location = key.removeprefix(_OBJECTS)
    return location if key.startswith(_OBJECTS) and is_location(location) else None


def _is_stranger(stores: Stores, key: str, location: str) -> bool:
    """Look again: what was just collected is gone from the store, what was just written is known."""
    if key.startswith(_OBJECTS):
        try:
            stores.blobs.size_bytes(location)
        except BlobNotFoundError:
            return False
    elif key not in stores.blobs.iter_keys():
        return False
    return not stores.catalog.is_known(location)


def _check_records(stores: Stores, keys: Sequence[str]) -> Iterator[Finding]:
    found = {key: match for key in keys if (match := _RECORD.fullmatch(key))}
    named = {key: (match[1], match[2], 0 if match[3] == "model" else int(match[3])) for key, match in found.items()}
    known = stores.catalog.find_versions(set(named.values()))
    for key, version in named.items():
        if version not in known and _is_left(stores, key, version):
            detail = "The database has no such version. Was it restored from before, or did its purge just end?"
            yield Finding(Kind.RECORD_UNKNOWN, key, detail)


def _is_left(stores: Stores, key: str, version: tuple[str, str, int]) -> bool:
    """Look again: the record of what was just purged goes a moment later, and is due until then."""
    if stores.catalog.is_record_due(*version) or stores.catalog.find_versions({version}):
        return False
    try:
        stores.blobs.read_record(key.removeprefix(RECORDS))
    except BlobNotFoundError:
        return False
    return True
