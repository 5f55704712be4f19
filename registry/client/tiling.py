"""Tiles of local files: cut by what the strict reader finds, digested by all cores, a few MiB in memory each.

Files are read and not mapped: one that somebody makes shorter meanwhile would end the process of a push over a map.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO

from blake3 import blake3

from registry.client.transfer import OutgoingFile
from registry.errors import SizeMismatchError, WeighbridgeError
from registry.formats.inspection import Inspection
from registry.formats.source import ByteRange, FileSource
from registry.schema import ServiceInfo, VersionCreate
from registry.tiles import MIN_REUSABLE_BYTES, cut
from registry.uploads import MAX_TILES, ClaimedTile

CAPABILITY = "delta-uploads"
READ_BYTES = 4 << 20
MAX_THREADS = 8
_CLAIM_BYTES = 90
"""What a tile takes of the request, at most."""


def claim_tiles(
    service: ServiceInfo, metadata: VersionCreate, files: Sequence[OutgoingFile]
) -> dict[str, list[ClaimedTile]]:
    """Return the tiles of files by path, as many as a request to the service may hold; none where it takes none.

    Raises:
        SizeMismatchError: a file changed its size.
    """
    if CAPABILITY not in service.capabilities:
        return {}
    free = service.limits.max_metadata_bytes - 2 * len(metadata.model_dump_json())
    places = _cut_all(files, min(MAX_TILES, free // _CLAIM_BYTES))
    by_path = {each.path: each for each in files}
    return {path: _digest(by_path[path], each) for path, each in places.items()}


def _cut_all(files: Sequence[OutgoingFile], most: int) -> dict[str, list[ByteRange]]:
    """Return the places of tiles of as many files as fit, coarser ones where they are too many."""
    inspections: Mapping[str, Inspection | None] = {
        each.path: _inspect(each.file) for each in files if each.size_bytes >= MIN_REUSABLE_BYTES
    }
    sizes = {each.path: each.size_bytes for each in files if each.path in inspections}
    places = {path: cut(inspections[path], size) for path, size in sizes.items()}
    total = sum(len(each) for each in places.values())
    if total > most:
        shares = {path: max(most * len(each) // total, 1) for path, each in places.items()}
        places = {path: cut(inspections[path], size, max_tiles=shares[path]) for path, size in sizes.items()}
    fitting: dict[str, list[ByteRange]] = {}
    for path in sorted(places, key=lambda each: -sizes[each]):
        most -= len(places[path])
        if most >= 0:
            fitting[path] = places[path]
    return fitting


def _inspect(path: Path) -> Inspection | None:
    """Return what a file holds; None where it is no weights or cannot be read, which the service will say."""
    from registry.formats.reader import read

    try:
        with FileSource(path) as source:
            return read(source).inspection
    except (WeighbridgeError, OSError):
        return None


def _digest(file: OutgoingFile, places: Sequence[ByteRange]) -> list[ClaimedTile]:
    if len(places) == 1 and file.digest.startswith("blake3:"):
        return [(file.size_bytes, file.digest.removeprefix("blake3:"))]
    groups = list(_groups(places))
    with ThreadPoolExecutor(_threads(), "weighbridge-tiles") as pool:
        digests = [each for some in pool.map(partial(_digest_group, file.file), groups) for each in some]
    return [(length, digest) for (_, length), digest in zip(places, digests, strict=True)]


def _threads() -> int:
    return min(os.cpu_count() or 1, MAX_THREADS)


def _groups(places: Sequence[ByteRange]) -> Iterator[list[ByteRange]]:
    """Yield neighbouring places that are read together, a few MiB of them; longer ones alone."""
    group: list[ByteRange] = []
    size = 0
    for place in places:
        if group and size + place[1] > READ_BYTES:
            yield group
            group, size = [], 0
        group.append(place)
        size += place[1]
    if group:
        yield group


def _digest_group(path: Path, group: Sequence[ByteRange]) -> list[str]:
    begin, end = group[0][0], sum(group[-1])
    with path.open("rb", buffering=0) as file:
        file.seek(begin)
        if len(group) == 1:
            hasher = blake3()
            for start in range(begin, end, READ_BYTES):
                hasher.update(_read(file, path, min(READ_BYTES, end - start)))
            return [hasher.hexdigest()]
        data = memoryview(_read(file, path, end - begin))
    return [blake3(data[offset - begin : offset - begin + length]).hexdigest() for offset, length in group]


def _read(file: IO[bytes], path: Path, length: int) -> bytes:
    pieces: list[bytes] = []
    while length:
        piece = file.read(length)
        if not piece:
            raise SizeMismatchError(f"{path} became shorter while it was read. Push it again.")
        pieces.append(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
