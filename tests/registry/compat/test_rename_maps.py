from collections import OrderedDict

import pytest

from registry.architecture import Architecture
from registry.compat.compare import compare
from registry.compat.rename_map import RenameMap, Rule, rename_metadata
from registry.errors import AmbiguousPrefixError, InvalidRequestError
from registry.tensor_spec import TensorSpec


def network(prefix="", count=12, start=0):
    return [TensorSpec(f"{prefix}layer{at}.weight", (at + 2, 3), "float32") for at in range(start, start + count)]


def architecture(*specs):
    return Architecture(spec for each in specs for spec in each)


def test_identity_wins_where_it_is_as_good_as_any_map():
    both = architecture(network("encoder_q."), network("encoder_k."))
    report = compare(both, both)
    assert report.renames.is_identity
    assert report.verdict == "exact"


def test_a_map_that_wins_by_less_than_a_tenth_is_refused_with_its_rivals():
    source = architecture(network("q."), network("k.", count=11))
    with pytest.raises(AmbiguousPrefixError, match=r"prefix=\('q.', ''\) fills 12") as raised:
        compare(source, architecture(network()))
    assert raised.value.extra["candidates"] == [
        {"strip": "q.", "add": "", "tensors": 12},
        {"strip": "k.", "add": "", "tensors": 11},
    ]


def test_a_map_that_wins_by_a_tenth_is_taken():
    source = architecture(network("q."), network("k.", count=10))
    report = compare(source, architecture(network()))
    assert report.renames.rules == (Rule("q.", ""),)
    assert {each.leftover for each in report.unexpected} <= {"auxiliary", "head"}


def test_several_rules_that_do_not_contradict_each_other_are_one_map():
    source = architecture(network("image."), network("text.", start=20))
    target = architecture(network("towers.a."), network("towers.b.", start=20))
    report = compare(source, target)
    assert report.verdict == "exact"
    assert set(report.renames.rules) == {Rule("image.", "towers.a."), Rule("text.", "towers.b.")}


def test_names_that_fall_together_without_wrappers_are_an_error_or_kept_apart():
    twins = architecture(network("module."), network())
    assert compare(twins, architecture(network())).renames.is_identity
    with pytest.raises(AmbiguousPrefixError, match="would both become"):
        compare(twins, architecture(network()), prefix=("module.", ""))


def test_a_prefix_is_replaced_as_asked_and_must_be_there():
    source, target = architecture(network("a.b.")), architecture(network("x."))
    assert compare(source, target, prefix=("a.b.", "x.")).verdict == "exact"
    assert compare(source, target, prefix=("a.b", "x")).verdict == "exact"
    assert compare(source, target, prefix="").matched == {}
    with pytest.raises(InvalidRequestError, match=r"begins with 'c\.'"):
        compare(source, target, prefix=("c.", ""))


def test_a_renaming_comes_after_the_prefix():
    source, target = architecture(network("a.")), architecture(network("x."))
    assert compare(source, target, prefix=("a.", ""), rename=lambda name: f"x.{name}").verdict == "exact"
    assert compare(source, target, rename={"a.": "x."}).verdict == "exact"
    single = compare(source, target, rename={"a.layer0.weight": "x.layer0.weight"})
    assert single.matched == {"x.layer0.weight": "a.layer0.weight"}


@pytest.mark.parametrize(
    "rename",
    [{"b.": "x."}, {"layer0.weight": "x"}, lambda _: None, "by-order", 7],
    ids=["prefix", "name", "none", "order", "number"],
)
def test_a_renaming_that_concerns_nothing_is_refused(rename):
    source, target = architecture(network("a.")), architecture(network("x.", count=3))
    with pytest.raises(InvalidRequestError):
        compare(source, target, rename=rename)


def test_a_renaming_under_which_two_names_fall_together_is_refused():
    with pytest.raises(AmbiguousPrefixError, match="would both become 'same'"):
        compare(architecture(network()), architecture(network()), rename=lambda _: "same")


def test_equal_ordered_shapes_under_other_names_are_offered_and_never_taken_unasked():
    source = Architecture(TensorSpec(f"old{9 - at}", (at + 2, 3), "float32") for at in range(6))
    target = Architecture(TensorSpec(f"new{9 - at}", (at + 2, 3), "float32") for at in range(6))
    report = compare(source, target)
    assert (report.verdict, report.by_order, report.matched) == ("incompatible", True, {})
    assert 'rename="by-order"' in str(report)
    assert compare(source, target, rename="by-order").verdict == "exact"


def test_files_that_lost_the_order_of_their_modules_are_not_offered_by_order():
    source = Architecture(TensorSpec(f"old{at}", (3,), "float32") for at in range(6))
    target = Architecture(TensorSpec(f"new{9 - at}", (3,), "float32") for at in range(6))
    assert not compare(source, target).by_order


def test_other_layers_of_one_network_are_no_wrapper():
    source = architecture(network("trunk."), network("block1.", count=4))
    target = architecture(network("trunk."), network("block1.", count=4, start=30), network("block2.", count=4))
    report = compare(source, target)
    assert report.renames.is_identity


def test_metadata_moves_with_the_names_also_of_modules_without_tensors():
    names = {"model.net.a.weight": "net.a.weight", "model.net.a.bias": "net.a.bias"}
    renames = RenameMap(names, (Rule("model.", ""),))
    metadata = {"": {}, "model": {"version": 7}, "model.net.a": {"version": 2}, "model.relu": {"version": 1}, "x": {}}
    moved = rename_metadata(renames, metadata)
    assert moved["net.a"] == {"version": 2}
    assert moved["relu"] == {"version": 1}
    assert moved[""] == {"version": 7}
    assert moved["x"] == {}


def test_a_renamed_state_dict_keeps_values_order_and_what_it_does_not_know():
    values = OrderedDict([("m.b", 1), ("m.a", 2), ("other", 3)])
    renamed = RenameMap({"m.b": "b", "m.a": "a"}).renamed(values)
    assert list(renamed.items()) == [("b", 1), ("a", 2), ("other", 3)]
    assert not hasattr(renamed, "_metadata")
