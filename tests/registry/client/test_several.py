"""Which ranges go together in one request."""

from hypothesis import given
from hypothesis import strategies as st

from registry.client.several import MAX_BYTES, MAX_RANGES, SHORT_BYTES, batch

GAPS_AND_LENGTHS = st.tuples(st.integers(0, 9), st.sampled_from([1, 700, SHORT_BYTES, SHORT_BYTES + 1]))


@given(st.lists(GAPS_AND_LENGTHS, max_size=400))
def test_each_range_is_asked_for_once_and_short_ones_together_as_far_as_one_request_goes(found):
    ranges, position = [], 0
    for gap, length in found:
        ranges.append((position + gap, length))
        position += gap + length

    batches, others = batch(ranges)

    assert sorted([*others, *(each for one in batches for each in one.ranges)]) == ranges
    for each in batches:
        assert 2 <= len(each.ranges) <= MAX_RANGES
        assert sum(length for _, length in each.ranges) <= MAX_BYTES
        assert max(length for _, length in each.ranges) <= SHORT_BYTES
    assert sum(length <= SHORT_BYTES for _, length in others) <= 1 + len(batches)


def test_as_few_requests_as_possible_bring_many_ranges():
    batches, others = batch([(10 * n, 5) for n in range(2 * MAX_RANGES + 1)])

    assert [len(each.ranges) for each in batches] == [MAX_RANGES, MAX_RANGES]
    assert others == [(20 * MAX_RANGES, 5)]
