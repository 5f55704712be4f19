"""Doubting what an upload reuses, when what it makes is not what was announced: stored bytes may have changed."""

from collections.abc import Iterator
from datetime import UTC, datetime

from blake3 import blake3

from registry.errors import BlobNotFoundError, PlanStaleError
from registry.tiles import Tile
from storage.metadata.records import Source
from storage.metadata.upload_records import UploadRecord
from storage.stores import Stores
from storage.uploads.reuse import ranges_in_objects


def stale_plan() -> PlanStaleError:
    """Return the error for an upload whose plan does not hold any more."""
    return PlanStaleError("What this upload was to reuse is not there as it was. Push again: it is planned afresh.")


def mark_damaged_sources(stores: Stores, upload: UploadRecord) -> bool:
    """Read again what an upload reuses, mark objects that are not what they were, and return whether there are any.

    Looked at are the tiles that are reused: no more bytes than the upload's files have.
    """
    sources = stores.catalog.find_sources(upload.team, upload.object_ids) if upload.object_ids else {}
    damaged = [each for each in sources.values() if not _is_whole(stores, each, upload)]
    for each in damaged:
        stores.catalog.mark_damaged(each.object_id, each.location, datetime.now(UTC))
    return len(damaged) > 0 or len(sources) != len(upload.object_ids)


def _is_whole(stores: Stores, source: Source, upload: UploadRecord) -> bool:
    try:
        if stores.blobs.size_bytes(source.location) != source.size_bytes:
            return False
        for offset, length, digest in _iter_reused(stores, source, upload):
            hasher = blake3()
            for piece in stores.blobs.stream(source.location, offset, length):
                hasher.update(piece)
            if f"blake3:{hasher.hexdigest()}" != digest:
                return False
    except (BlobNotFoundError, ValueError):
        return False
    return True


def _iter_reused(stores: Stores, source: Source, upload: UploadRecord) -> Iterator[Tile]:
    spans = [span for file in upload.files for span in ranges_in_objects(file.extents or ()).get(source.object_id, [])]
    for tile in stores.catalog.list_tiles(source.object_id):
        if any(offset <= tile.offset and tile.offset + tile.length <= offset + length for offset, length in spans):
            yield tile
