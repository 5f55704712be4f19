"""Plans of what need not be sent: whatever is stored, they give back the file, and keep within their limits."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from registry.digest import blake3_digest
from registry.tiles import MIN_REUSABLE_BYTES, Tile
from storage.metadata.reuse import KnownObject
from storage.uploads import reuse
from storage.uploads.reuse import plan_extents, ranges_to_send

LENGTHS = (100, 2_000, 2_048, 3_000, 5_000, 40_000)
"""Of the pieces that files and objects are made of: three of them residue, or nearly."""
PIECES = st.lists(st.tuples(st.sampled_from(LENGTHS), st.integers(0, 3)), max_size=40)


def content(piece):
    length, seed = piece
    return random.Random(f"{length} {seed}").randbytes(length)


def tiles_of(pieces):
    """Return the bytes of pieces one after another, and their tiles."""
    position, tiles = 0, []
    for piece in pieces:
        data = content(piece)
        tiles.append(Tile(position, len(data), blake3_digest(data)))
        position += len(data)
    return b"".join(map(content, pieces)), tiles


def known_of(number, pieces, *, knows_tiles=True):
    data, tiles = tiles_of(pieces)
    places = {tile.digest: tile.offset for tile in tiles if tile.length >= MIN_REUSABLE_BYTES}
    return data, KnownObject(number, places, tiles if knows_tiles else [])


def assemble(extents, file, objects):
    """Return what the extents give, with the pack made of the ranges that are to be sent."""
    pack = b"".join(file[offset : offset + length] for offset, length in ranges_to_send(extents))
    everything = {None: pack, **objects}
    return b"".join(everything[each.object_id][each.offset : each.offset + each.length] for each in extents)


@given(file=PIECES, stored=st.lists(PIECES, max_size=4), knows_tiles=st.booleans(), most=st.integers(1, 20))
def test_extents_and_what_is_sent_give_back_the_file_within_the_limits(file, stored, knows_tiles, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "MAX_OBJECTS", 3)
        patch.setattr(reuse, "MAX_EXTENTS", most)
        data, tiles = tiles_of(file)
        objects, known = {}, []
        for number, pieces in enumerate(stored):
            objects[number], each = known_of(number, pieces, knows_tiles=knows_tiles)
            known.append(each)

        extents = plan_extents(tiles, known, len(data))

        if extents is not None:
            assert assemble(extents, data, objects) == data
            assert len(extents) <= max(most, 1)
            assert len({each.object_id for each in extents} - {None}) < 3


def test_an_unchanged_file_is_one_extent_and_nothing_is_sent():
    pieces = [(100, 0), (40_000, 0), (100, 1), (3_000, 0), (40_000, 0), (2_000, 1)]
    data, known = known_of(7, pieces)
    extents = plan_extents(tiles_of(pieces)[1], [known], len(data))
    assert [(each.object_id, each.offset, each.length) for each in extents] == [(7, 0, len(data))]
    assert ranges_to_send(extents) == []


def test_what_lies_between_unchanged_storages_is_reused_with_them():
    before = [(100, 0), (40_000, 0), (100, 1), (40_000, 1), (100, 2), (3_000, 0), (2_000, 0)]
    after = [(100, 0), (40_000, 0), (100, 1), (40_000, 1), (100, 2), (3_000, 1), (2_000, 1)]
    _, known = known_of(1, before)
    data, tiles = tiles_of(after)
    extents = plan_extents(tiles, [known], len(data))
    assert [(each.object_id, each.offset, each.length) for each in extents] == [(1, 0, 80_300), (None, 0, 5_000)]
    assert ranges_to_send(extents) == [(80_300, 5_000)]


def test_a_storage_that_lies_in_a_thousand_places_takes_no_longer_for_that():
    """Each run ends after one tile, and each storage of the object is the same: a few places are tried, not all."""
    same, others = (2_048, 0), [(100, seed) for seed in range(4)]
    _, known = known_of(1, [piece for number in range(2_000) for piece in (same, others[number % 2])])
    _, tiles = tiles_of([piece for number in range(2_000) for piece in (same, others[2 + number % 2])])
    tried = []

    class Counted(reuse._Object):
        def _grow_from(self, *place):
            tried.append(place)
            return super()._grow_from(*place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "_Object", Counted)
        assert len(list(reuse.find_runs(tiles, [known]))) == 2_000
    assert len(tried) <= 3 * 2_000


def test_a_file_of_which_hardly_anything_is_stored_is_sent_whole():
    _, known = known_of(1, [(5_000, 0)])
    data, tiles = tiles_of([(40_000, seed) for seed in range(4)] + [(5_000, 0)])
    assert plan_extents(tiles, [known], len(data)) is None
