"""Random modules, and state_dicts of them as they may have been saved: for properties that torch decides."""

from collections import OrderedDict

import torch
from hypothesis import strategies as st
from torch import nn

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
changes = st.sampled_from(
    [
        "none",
        "none",
        "drop",
        "wrap",
        "wrap inside",
        "cast",
        "half",
        "reshape",
        "untie",
        "plain",
        "old",
        "uncounted",
        "add",
    ]
)


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
    else:
        state_dict, metadata = _changed_as_a_whole(draw, state_dict, metadata, change)
    if metadata is not None and change != "plain":
        state_dict._metadata = metadata
        return state_dict
    return OrderedDict(state_dict)


def _changed_as_a_whole(draw, state_dict, metadata, change):
    if change == "wrap":
        prefix = draw(st.sampled_from(["module.", "model.", "_orig_mod.", "x.y."]))
        state_dict = OrderedDict((f"{prefix}{each}", value) for each, value in state_dict.items())
        metadata = metadata and {f"{prefix}{each}".strip("."): values for each, values in metadata.items()}
    elif change == "wrap inside":
        state_dict, metadata = _compiled(state_dict, metadata, next(iter(state_dict)).partition(".")[0])
    elif change == "half":
        state_dict = OrderedDict(
            (each, value.half() if value.is_floating_point() else value) for each, value in state_dict.items()
        )
    elif change == "old":
        metadata = metadata and {each: {"version": 1} for each in metadata}
    elif change == "uncounted":
        state_dict = OrderedDict(each for each in state_dict.items() if not each[0].endswith("num_batches_tracked"))
    return state_dict, metadata


def _compiled(state_dict, metadata, child):
    """What is saved when one child was given to `torch.compile`: a module around it that has its only child."""
    inner = f"{child}._orig_mod"

    def moved(name):
        return inner + name[len(child) :] if name == child or name.startswith(f"{child}.") else name

    if child in state_dict:
        return state_dict, metadata
    renamed = OrderedDict((moved(name), value) for name, value in state_dict.items())
    if metadata is not None:
        wrappers = {child: {"version": 1}} if child in metadata else {}
        metadata = {"": metadata.get("", {}), **wrappers, **{moved(name): each for name, each in metadata.items()}}
    return renamed, metadata
