"""Which bytes of a file need not be sent: runs of tiles that lie in objects of the team in the same order.

A run begins at a tile that is stored, and grows over its neighbours in both directions as long as the object has the
same tiles there: so headers, padding and small tensors that did not change come along, and a frozen backbone is one
extent. Where that makes an artifact of too many pieces, the shortest runs are sent instead.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from registry.formats.source import ByteRange
from registry.tiles import Tile
from storage.metadata.records import PlannedExtent
from storage.metadata.reuse import KnownObject

MAX_OBJECTS = 32
"""Objects that an artifact spans, with the one that is sent."""
MAX_EXTENTS = 1024
"""Of one artifact: each is a row, and what is assembled of more is read slowly."""
MIN_RUN_BYTES = 512
"""Shorter runs, such as a header that is the same elsewhere, are sent: their rows would be as long."""
MIN_SAVED_BYTES = 64 << 10
MIN_SAVED_SHARE = 0.01
"""A file of which less is stored is sent whole, as if nothing were."""


class Run(NamedTuple):
    """A range of the file that lies in an object, in bytes."""

    start: int
    length: int
    object_id: int
    offset: int


def plan_extents(tiles: Sequence[Tile], known: Sequence[KnownObject], size_bytes: int) -> list[PlannedExtent] | None:
    """Return how a file will lie when only what is not stored is sent; None where it had better be sent whole.

    Args:
        tiles: of the file; they cover it exactly.
        known: objects of the team that hold some of them, those with most first.
        size_bytes: of the file.
    """
    runs = _within_limits(list(find_runs(tiles, known)), size_bytes)
    saved = sum(run.length for run in runs)
    if not runs or (saved < size_bytes and saved < max(MIN_SAVED_BYTES, MIN_SAVED_SHARE * size_bytes)):
        return None
    return list(_extents(runs, size_bytes))


def ranges_to_send(extents: Sequence[PlannedExtent]) -> list[ByteRange]:
    """Return the ranges of the file that are sent, in the order in which they are, neighbours joined."""
    ranges: list[ByteRange] = []
    position = 0
    for extent in extents:
        if extent.object_id is None:
            ranges.append((position, extent.length))
        position += extent.length
    return ranges


def ranges_in_objects(extents: Sequence[PlannedExtent]) -> dict[int, list[ByteRange]]:
    """Return the ranges of objects that a file reuses, by object."""
    ranges: dict[int, list[ByteRange]] = {}
    for extent in extents:
        if extent.object_id is not None:
            ranges.setdefault(extent.object_id, []).append((extent.offset, extent.length))
    return ranges


def find_runs(tiles: Sequence[Tile], known: Sequence[KnownObject]) -> Iterator[Run]:
    """Yield the runs of a file that are stored, in file order, each as long as can be."""
    objects = [_Object(each) for each in known]
    floor = index = 0
    while index < len(tiles):
        run = None
        for each in objects:
            found = each.grow(tiles, index, floor)
            run = found if run is None or (found is not None and found.length > run.length) else run
        if run is None:
            index += 1
            continue
        yield run
        while index < len(tiles) and tiles[index].offset < run.start + run.length:
            index += 1
        floor = index


class _Object:
    """An object, its tiles by where they begin and end, and where each storage lies, which may be in several places."""

    def __init__(self, known: KnownObject) -> None:
        self._object_id = known.object_id
        self._shift = 0
        places = {digest: {offset} for digest, offset in known.places.items()}
        for tile in known.tiles:
            places.setdefault(tile.digest, set()).add(tile.offset)
        self._places = {digest: sorted(offsets) for digest, offsets in places.items()}
        self._beginning = {tile.offset: (tile.length, tile.digest) for tile in known.tiles}
        self._ending = {tile.offset + tile.length: (tile.length, tile.digest) for tile in known.tiles}

    def grow(self, tiles: Sequence[Tile], index: int, floor: int) -> Run | None:
        """Return the run that goes through the tile at `index` and no further back than `floor`; None without one.

        Of a storage that lies in several places, those are tried that are nearest to where the last run leads.
        """
        places = self._places.get(tiles[index].digest, [])
        nearest = bisect_left(places, tiles[index].offset + self._shift)
        tried = places[max(nearest - 1, 0) : nearest + 2]
        runs = [self._grow_from(offset, tiles, index, floor) for offset in tried]
        if not runs:
            return None
        longest = max(runs, key=lambda run: run.length)
        self._shift = longest.offset - longest.start
        return longest

    def _grow_from(self, offset: int, tiles: Sequence[Tile], index: int, floor: int) -> Run:
        first, start = index, offset
        while first > floor and self._ending.get(start) == tiles[first - 1][1:]:
            first -= 1
            start -= tiles[first].length
        last, end = index + 1, offset + tiles[index].length
        while last < len(tiles) and self._beginning.get(end) == tiles[last][1:]:
            end += tiles[last].length
            last += 1
        return Run(tiles[first].offset, end - start, self._object_id, start)


def _within_limits(runs: list[Run], size_bytes: int) -> list[Run]:
    """Return runs of so few objects and so few that the artifact can still be read well; the shortest are dropped."""
    if sum(run.length for run in runs) < size_bytes:
        runs = [run for run in runs if run.length >= MIN_RUN_BYTES]
    shares: dict[int, int] = {}
    for run in runs:
        shares[run.object_id] = shares.get(run.object_id, 0) + run.length
    kept = set(sorted(shares, key=lambda each: (-shares[each], each))[: MAX_OBJECTS - 1])
    runs = [run for run in runs if run.object_id in kept]
    while (count := sum(1 for _ in _extents(runs, size_bytes))) > MAX_EXTENTS:
        shortest = sorted(range(len(runs)), key=lambda index: runs[index].length)
        dropped = set(shortest[: max((count - MAX_EXTENTS) // 2, 1)])
        runs = [run for index, run in enumerate(runs) if index not in dropped]
    return runs


def _extents(runs: Sequence[Run], size_bytes: int) -> Iterator[PlannedExtent]:
    """Yield the extents of a file of which the runs are stored, and the rest is sent."""
    position = sent = 0
    for run in [*runs, Run(size_bytes, 0, 0, 0)]:
        if run.start > position:
            yield PlannedExtent(None, sent, run.start - position)
            sent += run.start - position
        if run.length:
            yield PlannedExtent(run.object_id, run.offset, run.length)
        position = run.start + run.length
