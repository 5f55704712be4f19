"""Planning reads: few, bounded, and complete."""

from hypothesis import given
from hypothesis import strategies as st

from storage.blobs.ranges import plan_runs

RANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=12)


def cover(ranges, gap, longest):
    return [(run.offset, run.length) for run in plan_runs(ranges, max_gap_bytes=gap, max_run_bytes=longest)]


def test_ranges_nearer_than_the_gap_share_a_read():
    assert cover([(0, 10), (15, 10)], gap=5, longest=100) == [(0, 25)]


def test_ranges_farther_apart_than_the_gap_are_read_apart():
    assert cover([(0, 10), (16, 10)], gap=5, longest=100) == [(0, 10), (16, 10)]


def test_a_run_ends_before_it_grows_too_long():
    assert cover([(0, 40), (40, 40), (80, 40)], gap=5, longest=100) == [(0, 80), (80, 40)]


def test_a_single_range_may_be_longer_than_a_run():
    assert cover([(0, 400), (10, 10)], gap=5, longest=100) == [(0, 400)]


def test_nothing_is_read_for_an_empty_range():
    assert cover([(5, 0)], gap=5, longest=100) == []


@given(RANGES, st.integers(0, 50), st.integers(1, 200))
def test_every_range_that_is_not_empty_lies_in_exactly_one_run(ranges, gap, longest):
    runs = plan_runs(ranges, max_gap_bytes=gap, max_run_bytes=longest)

    assert sorted(index for run in runs for index in run.members) == [
        index for index, (_, length) in enumerate(ranges) if length
    ]
    assert all(
        run.offset <= ranges[index][0] and sum(ranges[index]) <= run.offset + run.length
        for run in runs
        for index in run.members
    )


@given(RANGES, st.integers(0, 50), st.integers(1, 200))
def test_runs_are_no_longer_than_asked_or_than_their_longest_range(ranges, gap, longest):
    for run in plan_runs(ranges, max_gap_bytes=gap, max_run_bytes=longest):
        assert run.length <= max(longest, *(ranges[index][1] for index in run.members))
