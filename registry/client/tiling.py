"""Local files on their way out, each read once: digests of the tiles that the service may know, or of the whole.

Files are read and not mapped: one that somebody makes shorter meanwhile would end the process of a push over a map.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from registry.client.cache import blake3_file
from registry.client.range_digests import became_shorter, digest_ranges, iter_pieces
from registry.client.transfer import OutgoingFile, announce
from registry.digest import StreamDigests
from registry.errors import InvalidRequestError, WeighbridgeError
from registry.formats.source import ByteRange, FileSource
from registry.lanes import Lanes
from registry.schema import ServiceInfo, VersionCreate
from registry.tiles import MIN_REUSABLE_BYTES, cut_at, iter_reusable
from registry.uploads import MAX_TILES, ClaimedTile

CAPABILITY = "delta-uploads"
WITHOUT_DIGEST = "claimed-tiles"
"""The service holds what comes to its tiles: a file needs no digest beside them, which would take as long again."""
TILED_BYTES = 8 << 20
"""Smaller files are read once more where they are pushed with others: most are sent by a request without tiles."""
_CLAIM_BYTES = 90
"""What a tile takes of the request, at most."""
_ANNOUNCED_DIGEST_BYTES = 90
"""What the digest of a file takes of it, where it is announced in the end."""


def with_digest(outgoing: OutgoingFile) -> OutgoingFile:
    """Return a file with its digest, and where it is large with its tiles, in one pass.

    Raises:
        SizeMismatchError: it became shorter while it was read.
        InvalidRequestError: it cannot be read.
    """
    if outgoing.digest:
        return outgoing
    with _translated(outgoing):
        if outgoing.size_bytes >= TILED_BYTES and not outgoing.tiles:
            return _digest(outgoing, MAX_TILES)
        digest = blake3_file(outgoing.file)
        return replace(outgoing, digest=digest, blake3=digest)


def claim_tiles(
    service: ServiceInfo, metadata: VersionCreate, files: Sequence[OutgoingFile]
) -> dict[str, OutgoingFile]:
    """Return files with their tiles, as many as a request to the service may hold; none where it takes none.

    Raises:
        SizeMismatchError: a file changed its size.
        InvalidRequestError: one cannot be read.
    """
    if CAPABILITY not in service.capabilities:
        return {}
    announced = 2 * len(announce(metadata, files).model_dump_json()) + _ANNOUNCED_DIGEST_BYTES * len(files)
    most = min(MAX_TILES, (service.limits.max_metadata_bytes - announced) // _CLAIM_BYTES)
    whole = WITHOUT_DIGEST not in service.capabilities
    files = [each for each in files if each.size_bytes >= MIN_REUSABLE_BYTES]
    tiled = [_with_tiles(each, MAX_TILES, whole=whole) for each in files]
    total = sum(len(each.tiles) for each in tiled)
    if total > most:
        shares = [max(most * len(each.tiles) // total, 1) for each in tiled]
        tiled = [_with_tiles(each, share, whole=whole) for each, share in zip(tiled, shares, strict=True)]
    fitting: dict[str, OutgoingFile] = {}
    for each in sorted(tiled, key=lambda each: -each.size_bytes):
        most -= len(each.tiles)
        if most >= 0:
            fitting[each.path] = each
    return fitting


def _with_tiles(outgoing: OutgoingFile, most_tiles: int, *, whole: bool) -> OutgoingFile:
    """Return a file with at most so many tiles; `whole` says that its BLAKE3 is needed beside them."""
    if 0 < len(outgoing.tiles) <= most_tiles and (outgoing.blake3 or not whole):
        return outgoing
    with _translated(outgoing):
        if whole:
            return _digest(outgoing, most_tiles)
        places = _cut(outgoing.file, outgoing.size_bytes, most_tiles)
        return replace(outgoing, tiles=_with_lengths(places, digest_ranges(outgoing.file, places)))


@contextmanager
def _translated(outgoing: OutgoingFile) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidRequestError(f"{str(outgoing.file)!r} cannot be read: {error.strerror or error}.") from error


def _digest(outgoing: OutgoingFile, most_tiles: int) -> OutgoingFile:
    """Return a file with the digests of at most so many tiles, and its own, where there was none."""
    path, size_bytes = outgoing.file, outgoing.size_bytes
    places = _cut(path, size_bytes, most_tiles)
    digests = StreamDigests(places if len(places) > 1 else (), size_bytes, sha256=False)
    with path.open("rb", buffering=0) as file, Lanes(digests.takers) as lanes:
        for piece in iter_pieces(file, size_bytes):
            lanes.put(piece)
    if digests.size_bytes != size_bytes:
        raise became_shorter(path)
    found = [digests.find_range(*place) for place in places] if len(places) > 1 else [digests.blake3]
    digest, tiles = outgoing.digest or digests.blake3, _with_lengths(places, found)
    return replace(outgoing, digest=digest, blake3=digests.blake3, tiles=tiles)


def _with_lengths(places: Sequence[ByteRange], digests: Sequence[str | None]) -> tuple[ClaimedTile, ...]:
    found = zip(places, digests, strict=True)
    return tuple((length, digest.removeprefix("blake3:")) for (_, length), digest in found if digest is not None)


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
