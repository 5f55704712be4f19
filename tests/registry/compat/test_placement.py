"""Submodules in which a source fits that does not fit the whole: what is in the way of that need not be in theirs."""

import pytest

from registry.architecture import Architecture
from registry.compat.placement import place
from registry.compat.places import Source, Target
from registry.tensor_spec import TensorSpec


def layers(*modules, width=8):
    """Return the shapes of linear layers, each too small to be a place."""
    shapes = {"weight": (width, width), "bias": (width,)}
    return {f"{module}.{leaf}": shape for module in modules for leaf, shape in shapes.items()}


def below(module, *networks):
    """Return the shapes of networks inside a module."""
    return {f"{module}.{name}": shape for network in networks for name, shape in network.items()}


def architecture(shapes):
    return Architecture(TensorSpec(name, shape, "float32") for name, shape in shapes.items())


HEAD = {"head.weight": (5, 8)}
FIRST, LAST, ADDED = layers("a", "b", "c"), layers("x", "y", "z"), layers("m", "n")
MANY = layers(*"abcdefghij")
CONVOLUTION = {"conv.weight": (16, 3, 3, 3)}
OTHER_CONVOLUTION = {"conv.weight": (16, 4, 3, 3)}
SMALL = layers("stem", "body")
NETWORKS_IN_A_PART = {
    "a numbered sibling stays empty": (
        SMALL | HEAD,
        below("layers.0", SMALL) | below("layers.1", layers("stem", "body", width=12)),
        "layers.0",
    ),
    "the source has another network beside it": (
        layers("stem.0", "stem.1") | below("body", FIRST, HEAD),
        below("model.body", FIRST) | {"model.decoder.weight": (70, 8)},
        "model.body",
    ),
    "two parts of the source are two of the target": (
        below("one", layers("stem.0", "stem.1"), below("net", FIRST)) | below("two", LAST),
        below("net", FIRST, LAST) | {"decoder.weight": (90, 8)},
        "net",
    ),
    "another part of the source fits beside it": (
        below("net", FIRST, HEAD) | layers("neck", "last"),
        below("model", below("net", FIRST), layers("last")),
        "model.net",
    ),
    "it fits two equal parts": (
        FIRST | below("top", ADDED) | LAST,
        below("q", FIRST, ADDED, LAST) | below("k", FIRST, ADDED, LAST),
        "q",
    ),
    "its convolution is the first only there": (
        CONVOLUTION | MANY | {"head.weight": (5, 8), "head.bias": (5,)},
        {"before.weight": (3, 4, 3, 3)} | below("net", OTHER_CONVOLUTION, MANY, {"head.weight": (7, 8)}),
        "net",
    ),
}


@pytest.mark.parametrize(("source", "target", "into"), NETWORKS_IN_A_PART.values(), ids=NETWORKS_IN_A_PART.keys())
def test_a_network_is_found_in_the_part_that_it_fits(source, target, into):
    found = place(Source(architecture(source)), Target(architecture(target)))
    assert found is not None
    assert (found.into, found.report.reasons) == (into, [])
    assert place(Source(architecture(source)), Target(architecture(target)), look_for_equal=False) == found


def test_a_network_whose_trunk_is_cut_is_found_in_no_part():
    cut = below("net", layers("a", "c"), LAST) | {"decoder.weight": (64, 8)}
    assert place(Source(architecture(FIRST | LAST)), Target(architecture(cut))).into != "net"
