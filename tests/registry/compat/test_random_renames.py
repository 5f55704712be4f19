"""Property: a map is never a silent choice between equals, never worse than no map, and never merges two names."""

from contextlib import suppress
from itertools import takewhile

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from registry.architecture import Architecture
from registry.compat.compare import compare
from registry.compat.renames import find_renames
from registry.errors import AmbiguousPrefixError
from registry.tensor_names import WRAPPER_PARTS
from registry.tensor_spec import TensorSpec

PARTS = ("a", "b", "0", "1", "2", "enc", "model", "module", "_orig_mod", "layer1", "layer2", "head")
LEAVES = ("weight", "bias", "running_mean")
SHAPES = ((2,), (3,), (2, 3), (3, 3), ())

parts = st.sampled_from(PARTS)
paths = st.lists(parts, max_size=3).map(lambda each: "".join(f"{part}." for part in each))
prefixes = st.lists(parts, min_size=1, max_size=2).map(lambda each: "".join(f"{part}." for part in each))
names = st.builds(lambda path, leaf: path + leaf, paths, st.sampled_from(LEAVES))
trees = st.dictionaries(names, st.sampled_from(SHAPES), min_size=1, max_size=12)
unwrapped = st.dictionaries(names.filter(lambda name: bare(name) == name), st.sampled_from(SHAPES), min_size=1)
many = settings(max_examples=400, deadline=None, derandomize=True)


def network(shapes, prefix=""):
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def architecture(shapes, draw=None):
    order = draw(st.permutations(list(shapes))) if draw else list(shapes)
    return Architecture(TensorSpec(name, shapes[name], "float32") for name in order)


def bare(name):
    return ".".join(part for part in name.split(".") if part not in WRAPPER_PARTS)


def likeness(prefix, other):
    """How many of their last parts are equal: of twins, the one that is called alike is no equal choice."""
    pairs = zip(reversed(bare(prefix).split(".")), reversed(bare(other).split(".")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@many
@given(source=trees, target=trees, wrapper=st.sampled_from(["", "module.", "x."]), data=st.data())
def test_a_map_fills_at_least_what_the_names_fill_without_one(source, target, wrapper, data):
    have, want = architecture(network(source, wrapper), data.draw), architecture(target, data.draw)
    try:
        found = compare(have, want)
    except AmbiguousPrefixError:
        return
    assert len(found.matched) >= len(compare(have, want, prefix="").matched)
    assert len(set(found.renames.names.values())) == len(have.tensors)
    assert len(set(found.matched.values())) == len(found.matched)


@many
@given(tree=unwrapped, first=prefixes, second=prefixes, onto=st.one_of(st.just(""), prefixes), data=st.data())
def test_twins_are_never_chosen_from_in_silence(tree, first, second, onto, data):
    one, other, wanted = (network(tree, prefix) for prefix in (first, second, onto))
    twins = {**one, **other}
    assume(len(twins) == 2 * len(tree) and likeness(first, onto) == likeness(second, onto))
    for source, target in ((twins, wanted), (wanted, twins)):
        try:
            report = compare(architecture(source, data.draw), architecture(target, data.draw))
        except AmbiguousPrefixError:
            continue
        # What is not ambiguous kept its names, wrappers aside, or took no more of either twin than keeping them does.
        kept = all(bare(have) == bare(name) for name, have in report.matched.items())
        assert kept or len(report.matched) < len(tree), report.renames.names


@many
@given(tree=trees, extra=trees, prefix=st.one_of(st.just(""), prefixes), onto=prefixes, data=st.data())
def test_the_order_of_the_tensors_changes_no_map(tree, extra, prefix, onto, data):
    source = {**network(extra, "z."), **network(tree, prefix)}
    target = network(tree, onto)
    found = []
    for _ in range(2):
        with suppress(AmbiguousPrefixError):
            found.append(find_renames(architecture(source, data.draw), architecture(target, data.draw)).names)
    assert len(found) in {0, 2}
    assert len({tuple(sorted(each.items())) for each in found}) <= 1


@many
@given(tree=trees, prefix=prefixes, onto=prefixes, data=st.data())
def test_a_whole_network_under_another_prefix_is_found_or_ambiguous(tree, prefix, onto, data):
    source, target = network(tree, prefix), network(tree, onto)
    try:
        report = compare(architecture(source, data.draw), architecture(target, data.draw))
    except AmbiguousPrefixError:
        return
    assert len(report.matched) == len(tree), report.renames.names
