"""Property: a report without demands means a strict load after which every value is the source's, and only that."""

from collections import OrderedDict

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from registry.compat.compare import compare
from registry.compat.rename_map import RenameMap
from registry.digest import blake3_digest
from registry.errors import AmbiguousPrefixError
from registry.torch.architecture import architecture_of, architecture_of_state_dict

WIDTHS = (1, 2, 3)
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
NAMES = ("a", "b", "module", "model", "layer1", "layer2")


class Scalar(nn.Module):
    def __init__(self, shape, dtype):
        super().__init__()
        self.register_buffer("value", torch.zeros(shape, dtype=dtype))


class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed = nn.Embedding(width, 2)
        self.head = nn.Linear(2, width, bias=False)
        self.head.weight = self.embed.weight


widths = st.sampled_from(WIDTHS)
leaves = st.one_of(
    st.builds(nn.Linear, widths, widths, bias=st.booleans()),
    st.builds(nn.BatchNorm1d, widths, affine=st.booleans(), track_running_stats=st.booleans()),
    st.builds(nn.LSTM, widths, widths, num_layers=st.integers(1, 2)),
    st.builds(
        Scalar, st.sampled_from([(), (1,), (2,)]), st.sampled_from([*DTYPES, torch.int64, torch.int8, torch.bool])
    ),
    st.builds(Tied, widths),
)
modules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda each: nn.Sequential(*each)),
        st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=3).map(nn.ModuleDict),
    ),
    max_leaves=5,
)
changes = st.sampled_from(["none", "none", "drop", "wrap", "cast", "reshape", "untie", "plain", "add"])


@st.composite
def saved(draw, module):
    """A state_dict of the module as it may have been saved: of other values, and perhaps of something else."""
    source = module.state_dict()
    state_dict = OrderedDict((name, value.detach().clone()) for name, value in source.items())
    for index, name in enumerate(state_dict):
        if state_dict[name].is_floating_point():
            state_dict[name] += 1.5 + index
    first = {}
    for name, value in source.items():
        # What was one storage is one still, unless a change below takes it apart.
        state_dict[name] = first.setdefault((value.data_ptr(), value.shape), state_dict[name])
    state_dict._metadata = source._metadata
    for change in draw(st.lists(changes, max_size=2)):
        state_dict = _changed(draw, state_dict, change)
    return state_dict


def _changed(draw, state_dict, change):
    metadata = getattr(state_dict, "_metadata", None)
    name = draw(st.sampled_from(sorted(state_dict))) if state_dict else None
    if name is None or change == "none":
        return state_dict
    if change == "drop":
        del state_dict[name]
    elif change == "cast":
        state_dict[name] = state_dict[name].to(draw(st.sampled_from([*DTYPES, torch.int8])))
    elif change == "reshape":
        state_dict[name] = state_dict[name].reshape(-1)
    elif change == "untie":
        state_dict[name] = state_dict[name].clone() + draw(st.sampled_from([0, 1]))
    elif change == "add":
        state_dict[f"{name}_2"] = state_dict[name].clone()
    elif change == "wrap":
        prefix = draw(st.sampled_from(["module.", "model.", "_orig_mod.", "x.y."]))
        state_dict = OrderedDict((f"{prefix}{each}", value) for each, value in state_dict.items())
        metadata = metadata and {f"{prefix}{each}".strip("."): values for each, values in metadata.items()}
    if metadata is not None and change != "plain":
        state_dict._metadata = metadata
        return state_dict
    return OrderedDict(state_dict)


def described(state_dict):
    """The architecture with digests, as a manifest has it."""
    architecture = architecture_of_state_dict(state_dict)
    for name, spec in architecture.tensors.items():
        digest = blake3_digest(bytes(state_dict[name].contiguous().reshape(-1).view(torch.uint8).numpy().data))
        object.__setattr__(spec, "digest", digest)
    return architecture


def takes_every_value(module, state_dict):
    """Whether torch loads strictly, and every value is then the source's, converted."""
    try:
        module.load_state_dict(state_dict)
    except RuntimeError:
        return False
    loaded = module.state_dict()
    return all(
        name in loaded and torch.equal(loaded[name].reshape(value.shape), value.to(loaded[name].dtype))
        for name, value in state_dict.items()
        if value.numel() == loaded.get(name, value).numel()
    )


def demands_nothing(report):
    only_casts = set(report.needs) <= {"cast", "rename"}
    return report.verdict == "exact" and only_casts and all(each.effect != "refused" for each in report.casts)


def converts_no_kind(architecture, target, names):
    """Whether torch would do nothing that we refuse: what it does to the kind of a number is no matter of values."""
    report = compare(architecture, target, renames=names)
    return all(each.effect != "refused" for each in report.casts)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data(), module=modules)
def test_exact_without_demands_is_a_strict_load_of_every_value(data, module):
    state_dict = data.draw(saved(module))
    target, source = architecture_of(module), described(state_dict)
    try:
        report = compare(source, target)
    except AmbiguousPrefixError:
        return
    renamed = report.renamed(state_dict)
    if not converts_no_kind(source, target, report.renames):
        assert not demands_nothing(report)
        return
    dtypes = [{source.tensors[name].dtype for name in each.source_names} for each in report.conflicts]
    if any(len(each) > 1 for each in dtypes):
        # Digests do not tell whether values of two dtypes are equal after they were converted: then it is a conflict.
        assert not demands_nothing(report)
        return
    assert demands_nothing(report) is takes_every_value(module, renamed), str(report)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data(), module=modules, other=modules)
def test_missing_and_unexpected_names_are_those_of_torch(data, module, other):
    state_dict = data.draw(saved(data.draw(st.sampled_from([module, other]))))
    names = {name: name for name in state_dict}
    report = compare(architecture_of_state_dict(state_dict), architecture_of(module), renames=RenameMap(names))
    mismatched = {each.name for each in report.mismatched}
    kept = OrderedDict((name, value) for name, value in state_dict.items() if name not in mismatched)
    if hasattr(state_dict, "_metadata"):
        kept._metadata = state_dict._metadata
    answer = module.load_state_dict(kept, strict=False)
    assert {*report.missing, *report.tied} == set(answer.missing_keys) - mismatched
    assert {each.name for each in report.unexpected} == set(answer.unexpected_keys)
