"""What became of tensors, by digests alone: judged by the tensors themselves."""

import warnings

import pytest
import torch
from corpus.harmless import FORMS, rezipped, saved
from corpus.values import TENSORS, filled
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.client.comparing import read_local
from registry.lineage.differences import compare_contents

PLACED = {
    "plain": lambda values: values,
    "turned": lambda values: values.t(),
    "strip": lambda values: torch.cat([values, values])[:, : values.shape[1]][: values.shape[0]],
    "column": lambda values: torch.cat([values, values + 1], 1)[:, : values.shape[1]],
    "sparse": lambda values: values.to_sparse(),
}
DTYPES = [torch.float32, torch.float64, torch.int64, torch.float16]
TENSOR = st.tuples(
    st.sampled_from(DTYPES), st.integers(1, 4), st.integers(1, 4), st.sampled_from(list(PLACED)), st.integers(0, 2)
)
STATES = st.dictionaries(st.sampled_from(["a.w", "a.b", "b.w", "c"]), TENSOR, min_size=1, max_size=4)


def made(state):
    return {
        name: PLACED[placed](filled(dtype, rows, columns) + change)
        for name, (dtype, rows, columns, placed, change) in state.items()
    }


def contents_of(folder, value, form="zip"):
    path = folder / "model.pt"
    path.write_bytes(saved(lambda: value, form))
    return read_local(path)


def truth(old, new):
    """Return what became of a tensor, as far as torch itself can tell."""
    if old is None or new is None:
        return "added" if old is None else "removed"
    if old.shape != new.shape:
        return "reshaped"
    if (old.dtype, old.layout) != (new.dtype, new.layout):
        return "retyped"
    one, other = (each.to_dense().numpy().tobytes() for each in (old, new))
    return "equal" if one == other else "changed"


@settings(max_examples=40, deadline=None)
@given(first=STATES, second=STATES, forms=st.tuples(st.sampled_from(list(FORMS)), st.sampled_from(list(FORMS))))
def test_every_tensor_is_what_torch_says_or_honestly_unknown(tmp_path_factory, first, second, forms):
    folder = tmp_path_factory.mktemp("states")
    old, new = made(first), made(second)

    found = compare_contents(contents_of(folder, old, forms[0]), contents_of(folder, new, forms[1]))

    judged = {pair.name: change for change, pairs in found.pairs.items() for pair in pairs}
    assert judged.keys() == old.keys() | new.keys()
    for name, change in judged.items():
        if change == "unknown":
            assert not old[name].is_contiguous() or not new[name].is_contiguous()
        else:
            assert change == truth(old.get(name), new.get(name)), name
    plain = {name for name in new if first.get(name) == second[name] and second[name][3] == "plain"}
    assert all(judged[name] == "equal" for name in plain)
    assert 0 <= found.shared_bytes <= found.new_bytes


@pytest.mark.filterwarnings("ignore")  # the corpus is full of old forms
@pytest.mark.parametrize("name", ["views", "flags", "quantised", "tied", "channels-last", "sparse-csr", "meta"])
def test_a_file_compared_with_itself_has_nothing_that_changed(tmp_path, name):
    contents = contents_of(tmp_path, TENSORS[name]())

    found = compare_contents(contents, contents)

    counts = {change: len(pairs) for change, pairs in found.pairs.items() if pairs}
    assert counts == ({"unknown": 1} if name == "meta" else {"equal": len(contents)})


def test_values_that_the_file_holds_compressed_are_never_called_equal(tmp_path):
    path = tmp_path / "packed.pt"
    path.write_bytes(rezipped(saved(lambda: {"w": torch.ones(3)}, "zip")))

    found = compare_contents(read_local(path), read_local(path))

    assert [pair.name for pair in found.pairs["unknown"]] == ["w"]
    assert found.shared_bytes == 0


def test_quantised_values_with_another_scale_changed(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old, new = ({"w": torch.quantize_per_tensor(torch.ones(4), scale, 0, torch.qint8)} for scale in (0.5, 0.25))
        for each, scale in ((old, 0.5), (new, 0.25)):
            each["w"] = torch._make_per_tensor_quantized_tensor(torch.ones(4, dtype=torch.int8), scale, 0)

        found = compare_contents(contents_of(tmp_path, old), contents_of(tmp_path, new))

    assert not found.pairs["equal"]


def test_a_storage_that_is_shared_counts_once_and_under_any_name(tmp_path):
    values = torch.arange(100.0)
    old = contents_of(tmp_path, {"w": values, "other": torch.zeros(10)})
    new = contents_of(tmp_path, {"renamed": values, "tied": values, "fresh": torch.ones(50)})

    found = compare_contents(old, new)

    assert (found.old_bytes, found.new_bytes, found.shared_bytes) == (440, 600, 400)
    assert {change: len(pairs) for change, pairs in found.pairs.items() if pairs} == {"added": 3, "removed": 2}


def test_storages_of_two_shards_with_one_key_are_two(tmp_path):
    from registry.lineage.contents import join_contents

    first, second = (contents_of(tmp_path, {name: torch.ones(10)}) for name in ("a", "b"))

    found = compare_contents({}, join_contents([first, second]))

    assert found.new_bytes == 80
