"""Tensors whose opcodes run at once are what the opcodes make one by one: the same nodes, errors and limits."""

import io
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import ArtifactError
from registry.formats import machine
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.formats.nodes import Call, DictNode, Global, TupleNode
from registry.formats.storages import StorageTable

SHAPES = [(), (3,), (2, 3), (300, 2), (1, 2, 3), (2, 1, 3, 3), (1, 70000)]
DTYPES = [torch.float32, torch.int64]


def saved():
    buffer = io.BytesIO()
    tensors = {str(at): torch.empty(SHAPES[at % 7], dtype=DTYPES[at % 2]) for at in range(46)}
    for shared in ("41", "43"):
        tensors[shared] = torch.nn.Parameter(tensors["40"].float())
    torch.save(tensors | {"nested": {name: torch.empty(2, 1, 3, 3) for name in "ab"}}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read("archive/data.pkl")


DATA = saved()
TENSORS = DATA.index(b"X\x02\0\0\x0038")
"""Where the last eight tensors begin; torch's memo has more than 256 values by then."""


def described(node, numbers):
    """Return a node in words, one that was met before as its number."""
    if not isinstance(node, Call | DictNode | TupleNode):
        return str(node) if isinstance(node, Global) else repr(node)
    if id(node) in numbers:
        return numbers[id(node)]
    numbers[id(node)] = len(numbers)
    if isinstance(node, DictNode):
        return [[described(part, numbers) for part in pair] for pair in node.pairs]
    if isinstance(node, TupleNode):
        return [described(item, numbers) for item in node.items]
    parts = [node.function, *node.arguments, node.state, *node.items, *(part for pair in node.pairs for part in pair)]
    return [node.construct, len(node.arguments), len(node.items), *(described(part, numbers) for part in parts)]


def outcome(data, limits):
    table = StorageTable()
    try:
        result = machine.run(data, limits, persistent_load=table.add)
    except ArtifactError as error:
        return type(error), error.detail, error.extra, list(table.found)
    numbers = {}
    calls = [described(call, numbers) for call in result.calls]
    return described(result.root, numbers), calls, [*map(str, result.globals)], result.dangers, result.end


def outcomes(data, limits=DEFAULT_LIMITS):
    """Return what becomes of a pickle, with its tensors at once and with every opcode on its own."""
    with pytest.MonkeyPatch.context() as patch:
        at_once = outcome(data, limits)
        patch.setattr(machine, "run_tensor", lambda *_: None)  # this is what is compared with
        return at_once, outcome(data, limits)


def test_tensors_of_all_shapes_are_run_at_once(monkeypatch):
    steps = []
    run_tensor = machine.run_tensor
    monkeypatch.setattr(machine, "run_tensor", lambda *given: steps.append(run_tensor(*given)) or steps[-1])
    outcome(DATA, DEFAULT_LIMITS)
    assert sum(step is not None for step in steps) >= 8


def test_tensors_are_the_same_at_once_and_one_by_one():
    at_once, one_by_one = outcomes(DATA)
    assert at_once == one_by_one
    assert len(at_once[1]) > 2 * 46


@settings(max_examples=200, deadline=None)
@given(position=st.integers(TENSORS, len(DATA) - 1), byte=st.integers(0, 255), inserted=st.booleans())
def test_a_changed_byte_makes_the_same_difference_at_once_and_one_by_one(position, byte, inserted):
    at_once, one_by_one = outcomes(DATA[:position] + bytes([byte]) + DATA[position + (not inserted) :])
    assert at_once == one_by_one


def test_a_pickle_that_breaks_off_ends_the_same_at_once_and_one_by_one():
    for end in range(TENSORS, len(DATA), 7):
        at_once, one_by_one = outcomes(DATA[:end])
        assert at_once == one_by_one


@pytest.mark.parametrize(
    "limits",
    [
        *(Limits(mark_depth=depth) for depth in range(8)),
        *(Limits(opcodes=opcodes) for opcodes in range(1420, 1550, 3)),
        *(Limits(machine_bytes=size) for size in range(80_000, 90_000, 100)),
    ],
    ids=str,
)
def test_a_limit_is_met_at_once_where_it_is_met_one_by_one(limits):
    at_once, one_by_one = outcomes(DATA, limits)
    assert at_once == one_by_one
