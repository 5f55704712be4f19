"""Local files on their way out, each read once: their digests, and those of the tiles that the service may know.

Files are read and not mapped: one that somebody makes shorter meanwhile would end the process of a push over a map.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import FileIO
from itertools import cycle
from pathlib import Path

from registry.client.cache import blake3_file
from registry.client.transfer import OutgoingFile
from registry.digest import StreamDigests
from registry.errors import SizeMismatchError, WeighbridgeError
from registry.formats.source import ByteRange, FileSource
from registry.lanes import MOST_BEHIND, Lanes
from registry.schema import ServiceInfo, VersionCreate
from registry.tiles import MIN_REUSABLE_BYTES, cut_at, iter_reusable
from registry.uploads import MAX_TILES

CAPABILITY = "delta-uploads"
TILED_BYTES = 8 << 20
"""Smaller files are read once more where they are pushed with others: most are sent by a request without tiles."""
READ_BYTES = 1 << 20
_CLAIM_BYTES = 90
"""What a tile takes of the request, at most."""


def take_in(path: str, file: Path) -> OutgoingFile:
    """Return a local file as what is sent as the artifact `path`, and of a large one the digests of its tiles.

    Raises:
        SizeMismatchError: it became shorter while it was read.
        OSError: it cannot be read.
    """
    size_bytes = file.stat().st_size
    if size_bytes < TILED_BYTES:
        return OutgoingFile(path, file, size_bytes, blake3_file(file))
    return _digest(OutgoingFile(path, file, size_bytes, ""), MAX_TILES)


def claim_tiles(
    service: ServiceInfo, metadata: VersionCreate, files: Sequence[OutgoingFile]
) -> dict[str, OutgoingFile]:
    """Return files with their tiles, as many as a request to the service may hold; none where it takes none.

    Raises:
        SizeMismatchError: a file changed its size.
    """
    if CAPABILITY not in service.capabilities:
        return {}
    free = service.limits.max_metadata_bytes - 2 * len(metadata.model_dump_json())
    most = min(MAX_TILES, free // _CLAIM_BYTES)
    tiled = [
        each if each.tiles else _digest(each, MAX_TILES) for each in files if each.size_bytes >= MIN_REUSABLE_BYTES
    ]
    total = sum(len(each.tiles) for each in tiled)
    if total > most:
        tiled = [_digest(each, max(most * len(each.tiles) // total, 1)) for each in tiled]
    fitting: dict[str, OutgoingFile] = {}
    for each in sorted(tiled, key=lambda each: -each.size_bytes):
        most -= len(each.tiles)
        if most >= 0:
            fitting[each.path] = each
    return fitting


def _digest(outgoing: OutgoingFile, most_tiles: int) -> OutgoingFile:
    """Return a file with the digests of at most so many tiles, and its own, where there was none."""
    path, size_bytes = outgoing.file, outgoing.size_bytes
    places = _cut(path, size_bytes, most_tiles)
    digests = StreamDigests(places if len(places) > 1 else (), size_bytes, sha256=False)
    with path.open("rb", buffering=0) as file, Lanes(digests.takers) as lanes:
        for piece in _iter_pieces(file, size_bytes):
            lanes.put(piece)
    if digests.size_bytes != size_bytes:
        raise SizeMismatchError(f"{path} became shorter while it was read. Push it again.")
    whole = {(0, size_bytes): digests.blake3}
    found = [(length, whole.get((offset, length)) or digests.find_range(offset, length)) for offset, length in places]
    tiles = tuple((length, digest.removeprefix("blake3:")) for length, digest in found if digest is not None)
    return replace(outgoing, digest=outgoing.digest or digests.blake3, blake3=digests.blake3, tiles=tiles)


def _cut(path: Path, size_bytes: int, most_tiles: int) -> list[ByteRange]:
    """Return the places of the tiles of a file; one of what is no weights, or none that can be read."""
    from registry.formats.reader import read
    from registry.formats.torch_zip import find_records

    try:
        with FileSource(path) as source:
            records = find_records(source)
            storages = list(iter_reusable(read(source).inspection)) if records is None else records
    except (WeighbridgeError, OSError):
        storages = []
    return cut_at(storages, size_bytes, max_tiles=most_tiles)


def _iter_pieces(file: FileIO, size_bytes: int) -> Iterator[memoryview]:
    """Yield a file in pieces that are good until `MOST_BEHIND` others were asked for."""
    buffers = cycle([memoryview(bytearray(min(READ_BYTES, size_bytes))) for _ in range(MOST_BEHIND + 1)])
    for buffer in buffers:
        piece = buffer[: min(file.readinto(buffer) or 0, size_bytes)]
        if not piece:
            return
        size_bytes -= len(piece)
        yield piece
