"""Tiles: a file cut completely and without overlap, in file order, into what is stored once and what lies between.

A *reusable* tile is a storage of 2 KiB or more as it lies in the file. A *residue* tile is all that lies between two of
them: zip headers, the pickle, padding, small tensors, the central directory. A file that is no weights is one tile.
Client and service cut alike, so that a tile that did not change has the same digest on both sides.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from registry.formats.inspection import Inspection
from registry.formats.source import ByteRange

MIN_REUSABLE_BYTES = 2048
"""Smaller storages are sent again rather than looked up (DESIGN section 4)."""


class Tile(NamedTuple):
    """A tile, in bytes, and the `blake3:…` of its bytes."""

    offset: int
    length: int
    digest: str


def iter_reusable(inspection: Inspection) -> Iterator[ByteRange]:
    """Yield the places of storages that can be reused, in stored order. They may overlap."""
    for storage in inspection.storages:
        if storage.file_offset is not None and not storage.big_endian and storage.nbytes >= MIN_REUSABLE_BYTES:
            yield storage.file_offset, storage.nbytes


def cut(inspection: Inspection | None, size_bytes: int, *, max_tiles: int | None = None) -> list[ByteRange]:
    """Return the places of the tiles of a file.

    Args:
        inspection: what it holds; None where it is no weights, or cannot be read.
        size_bytes: its size.
        max_tiles: with more, the smallest storages become residue.
    """
    return cut_at([] if inspection is None else iter_reusable(inspection), size_bytes, max_tiles=max_tiles)


def cut_at(storages: Iterable[ByteRange], size_bytes: int, *, max_tiles: int | None = None) -> list[ByteRange]:
    """Return the places of the tiles of a file by where its storages lie; else as `cut`."""
    spans = [span for span in storages if span[1] >= MIN_REUSABLE_BYTES and sum(span) <= size_bytes]
    least = MIN_REUSABLE_BYTES
    while True:
        places = _fill(_apart(span for span in spans if span[1] >= least), size_bytes)
        if max_tiles is None or len(places) <= max(max_tiles, 1):
            return places
        least *= 2


def _apart(spans: Iterable[ByteRange]) -> Iterator[ByteRange]:
    """Yield spans in file order that do not overlap: of those that do, the first one wins."""
    end = 0
    for offset, length in sorted(spans):
        if offset >= end:
            yield offset, length
            end = offset + length


def _fill(spans: Iterable[ByteRange], size_bytes: int) -> list[ByteRange]:
    """Return spans with what lies between, before and behind them."""
    places: list[ByteRange] = []
    end = 0
    for offset, length in [*spans, (size_bytes, 0)]:
        if offset > end:
            places.append((end, offset - end))
        if length:
            places.append((offset, length))
        end = offset + length
    return places
