"""What names end alike: found by searching or by a table, as looking at each name finds it."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from registry import tensor_names
from registry.tensor_names import MAX_TWINS, Endings
from registry.tensor_spec import TensorSpec

part = st.sampled_from(["a", "b", "ab", "c1", "weight"])
name = st.lists(part, min_size=1, max_size=15).map(".".join)
shape = st.sampled_from([(), (1,), (2, 3)])


def look_at_each(tensors, asked, wanted):
    """Return what `find_twins` does, by comparing the parts of each name."""
    parts = asked.split(".")
    for count in range(len(parts), 0, -1):
        alike = [other for other in tensors if other.split(".")[-count:] == parts[-count:]]
        if alike:
            tail = ".".join(parts[-count:])
            twins = [other for other in alike if tensors[other].shape == wanted]
            return asked.removesuffix(tail), sorted(other.removesuffix(tail) for other in twins)
    return asked, []


@pytest.mark.parametrize("searched", [0, 3, 200])
@given(st.dictionaries(name, shape, max_size=MAX_TWINS), st.lists(st.tuples(name, shape), max_size=8))
def test_twins_are_those_that_share_the_longest_tail_and_the_shape(searched, shapes, asked):
    tensors = {each: TensorSpec(each, dimensions, "float32") for each, dimensions in shapes.items()}
    endings = Endings(tensors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_names, "_SEARCHED", searched)
        for each, wanted in [*asked, *shapes.items()]:
            head, twins = endings.find_twins(each, wanted)
            assert (head, sorted(twins)) == look_at_each(tensors, each, wanted)
