"""Tiles cover a file exactly, whatever its storages claim."""

from types import SimpleNamespace

import hypothesis.strategies as st
from hypothesis import given

from registry.formats.inspection import StorageRecord
from registry.tiles import MIN_REUSABLE_BYTES, cut

SIZE = 100_000
STORAGES = st.lists(
    st.builds(
        StorageRecord,
        key=st.just("0"),
        nbytes=st.integers(0, 30_000),
        file_offset=st.none() | st.integers(0, SIZE),
        big_endian=st.booleans(),
    )
)


def holding(storages):
    return SimpleNamespace(storages=storages)


@given(STORAGES, st.none() | st.integers(1, 5))
def test_tiles_cover_a_file_without_gap_or_overlap(storages, most):
    places = cut(holding(storages), SIZE, max_tiles=most)
    position = 0
    for offset, length in places:
        assert (offset, length > 0) == (position, True)
        position += length
    assert position == SIZE
    assert most is None or len(places) <= most


def test_a_storage_is_a_tile_of_its_own_from_2_kib_on():
    small = StorageRecord("0", MIN_REUSABLE_BYTES - 1, 100)
    large = StorageRecord("1", MIN_REUSABLE_BYTES, 10_000)
    assert cut(holding([small, large]), SIZE) == [(0, 10_000), (10_000, 2048), (12_048, SIZE - 12_048)]


def test_of_overlapping_storages_the_first_is_a_tile():
    storages = [StorageRecord("0", 5_000, 3_000), StorageRecord("1", 5_000, 1_000)]
    assert cut(holding(storages), 10_000) == [(0, 1_000), (1_000, 5_000), (6_000, 4_000)]


def test_what_is_no_weights_is_one_tile():
    assert cut(None, SIZE) == [(0, SIZE)]
    assert cut(None, 0) == []
