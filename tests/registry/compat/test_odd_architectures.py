"""Architectures that nobody trains and anybody may send: a report ends soon, and says something sensible.

The sizes are such that work which grows with the square of the tensors runs into the timeout.
"""

import pytest

from registry.architecture import Architecture
from registry.compat.compare import compare
from registry.tensor_spec import TensorSpec

MANY = 6000
DEEP = ".".join("abcdefghij"[at % 10] for at in range(200))


def spec(name, shape=(3,), **options):
    return TensorSpec(name, shape, "float32", **options)


def named(*names, **options):
    return Architecture(spec(name, **options) for name in names)


def pairs_of_layers(last):
    return Architecture(
        spec(f"m{at}.{leaf}.weight", (size, 3)) for at in range(MANY // 2) for leaf, size in (("conv", 8), ("fc", last))
    )


def numbered(text, count=MANY, step=1):
    return named(*(text.format(at) for at in range(0, count * step, step)))


CASES = {
    "one shape under other names": (numbered("a{0}.w"), numbered("b{0}.w"), "incompatible"),
    "one shape in another depth": (numbered("x.{0}.w"), numbered("y.{0}.{0}.w"), "incompatible"),
    "shuffled": (numbered("a{0}.w"), named(*(f"a{at}.w" for at in reversed(range(MANY)))), "exact"),
    "200 levels": (numbered(f"{DEEP}.{{0}}"), numbered(f"x.{DEEP}.{{0}}"), "exact"),
    "200 levels each": (numbered(f"{{0}}.{DEEP}"), numbered(f"{{0}}.{DEEP}", step=2), "partial"),
    "wrapped ever deeper": (
        named(*("module." * (at % 300) + f"{at}.w" for at in range(MANY))),
        numbered("{0}.w"),
        "exact",
    ),
    "a head in every layer": (pairs_of_layers(8), pairs_of_layers(4), "incompatible"),
    "every other layer": (numbered("m.{0}.w"), numbered("m.{0}.w", step=2), "partial"),
    "all tied": (numbered("m{0}.w"), named(*(f"m{at}.w" for at in range(MANY)), tie="one"), "partial"),
    "none of another size": (
        numbered("m{0}.w"),
        named(*(f"m{at}.w" for at in range(MANY)), shape=(2, 2)),
        "incompatible",
    ),
    "empty": (named(), named(), "exact"),
    "nothing into many": (named(), numbered("a{0}"), "incompatible"),
    "many into nothing": (numbered("a{0}"), named(), "incompatible"),
    "one without a name": (named(""), named(""), "exact"),
    "dots": (named(".", "..", "a.."), named(".", "..", "a.."), "exact"),
    "entries only": (Architecture([], entries=["_extra_state"]), Architecture([], entries=["_extra_state"]), "exact"),
    "other entries": (Architecture([], entries=["a._extra_state"]), Architecture([], entries=["b"]), "incompatible"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_report_on_odd_architectures_ends_and_says_what_fits(case):
    source, target, verdict = CASES[case]
    report = compare(source, target)
    assert report.verdict == verdict
    assert report.to_json()["text"]
    assert {*report.matched, *report.missing, *report.tied, *(each.name for each in report.mismatched)} == {
        *target.tensors,
        *report.missing,
    }


def test_recorded_heads_may_be_many():
    source, target = pairs_of_layers(8), pairs_of_layers(4)
    report = compare(source, target, classifier=[f"m{at}.fc" for at in range(MANY // 2)])
    assert report.verdict == "backbone"
    assert {each.adapter for each in report.mismatched} == {"head"}


def test_names_that_begin_with_each_other_never_fit_by_accident():
    chain = ["a." * at + "w" for at in range(1500)]
    report = compare(named(*chain), named(*(f"a.{each}" for each in chain)))
    # Their own names fill all but one, which no other renaming can beat by a tenth.
    assert (report.verdict, report.loads, report.renames.is_identity) == ("partial", False, True)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (["module.a\nb.w", "module.c.w"], ["a\nb.w", "c.w"]),
        (["x.a\nb.w", "x.c.w"], ["a\nb.w", "c.w"]),
        (["\n.w", "\0.w"], ["q.\n.w", "q.\0.w"]),
    ],
)
def test_names_of_several_lines_are_names(source, target):
    report = compare(named(*source), named(*target))
    assert list(report.renames.names.values()) == target
    assert report.verdict == "exact"


def test_tensors_of_the_root_stand_behind_the_trunk_each_for_itself():
    trunk = [f"{layer}.weight" for layer in ["stem", "body", "neck", "tail"]]
    report = compare(named(*trunk), named(*trunk, "scale", "shift"))
    assert (report.verdict, report.needs) == ("backbone", ["new_head"])
    behind = compare(named(*trunk, "scale", "shift"), named(*trunk))
    assert [each.leftover for each in behind.unexpected] == ["head", "head"]


@pytest.mark.parametrize("classes", [3, 26])
def test_a_network_of_two_layers_has_a_head_too(classes):
    def network(size):
        body = [spec("body.weight", (64, 784)), spec("body.bias", (64,))]
        return Architecture([*body, spec("head.weight", (size, 64)), spec("head.bias", (size,))])

    report = compare(network(10), network(classes))
    assert (report.verdict, report.head) == ("backbone", ["head"])
