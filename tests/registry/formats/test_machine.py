"""The pickle machine builds what pickle would build, runs nothing, and ends on anything."""

import collections
import pickle
import pickletools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.formats.machine import run, run_prefix
from registry.formats.nodes import BigInt, Call, DictNode, Global, PersistentRef, SetNode, TupleNode
from registry.formats.opcodes import BINGET, HANDLERS, STOP
from registry.formats.stack_opcodes import unknown
from registry.formats.values import as_items, as_pairs, text_bytes


def plain(node):
    """Return the value that a node stands for."""
    pairs, items = as_pairs(node), as_items(node)
    if pairs is not None:
        return {plain(key): plain(value) for key, value in pairs}
    if items is not None:
        return kind_of(node)(map(plain, items))
    if isinstance(node, BigInt):
        return int.from_bytes(node.data, "little", signed=True)
    return node if text_bytes(node) is None else text_bytes(node)


def kind_of(node):
    if isinstance(node, Call):
        return {"set": set, "frozenset": frozenset}[node.function.name]
    if isinstance(node, SetNode):
        return frozenset if node.frozen else set
    return tuple if isinstance(node, TupleNode) else list


hashables = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9), st.binary(max_size=9)
    ),
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=5,
)
values = st.recursive(
    st.one_of(hashables, st.integers(-(2**90), 2**90)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(hashables, inner, max_size=5),
        st.tuples(inner, inner, inner, inner),
        st.sets(hashables, max_size=3),
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(value=values, protocol=st.integers(0, 5), optimized=st.booleans())
def test_what_pickle_wrote_is_what_the_machine_builds(value, protocol, optimized):
    data = pickle.dumps(value, protocol)
    data = pickletools.optimize(data) if optimized else data
    result = run(data + b"rest", DEFAULT_LIMITS)
    assert plain(result.root) == value
    assert result.end == len(data)
    assert result.dangers == []


def test_every_opcode_of_pickletools_is_known():
    inlined = {STOP, BINGET}
    assert {ord(op.code) for op in pickletools.opcodes} == inlined | {
        code for code, handler in enumerate(HANDLERS) if handler is not unknown
    }


def test_shared_and_cyclic_objects_are_one_node():
    shared = [1]
    cycle = [shared, shared]
    cycle.append(cycle)
    root = run(pickle.dumps(cycle, 4), DEFAULT_LIMITS).root
    assert root.items[0] is root.items[1]
    assert root.items[2] is root


def test_instances_are_calls_with_their_state():
    result = run(pickle.dumps(collections.Counter("aab"), 2), DEFAULT_LIMITS)
    assert str(result.root.function) == "collections.Counter"
    assert plain(result.root.arguments[0]) == {"a": 2, "b": 1}
    assert result.globals == [result.root.function]
    assert result.calls == [result.root]


def test_everything_mentioned_counts_also_what_is_popped_or_overwritten():
    data = b"cos\nsystem\n0cnt\nspawn\np0\n0]p0\n0N."
    assert [str(each) for each in run(data, DEFAULT_LIMITS).globals] == ["os.system", "nt.spawn"]


def test_memoize_counts_what_is_there_and_not_the_highest_index():
    data = b"(K\x05q\x040K\x06\x940h\x01."
    with pytest.raises(MalformedArtifactError):
        run(data, DEFAULT_LIMITS)
    assert run(b"K\x05q\x00K\x06\x9400h\x01.", DEFAULT_LIMITS).root == 6


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x82\x01.", "extension registry"),
        (b"\x83\x01\x00.", "extension registry"),
        (b"\x84\x01\x00\x00\x00.", "extension registry"),
        (b"C\x02osC\x06system\x93.", "computes the name"),
        (b"cm\nA\n)R)R.", "calls a value that it computed"),
        (b"cm\nA\ncm\nB\n)RR.", "computes the arguments"),
        (b"cm\nA\n)R}b}b.", "twice"),
        (b"cm\nA\n}b.", "no instance"),
        (b"N}b.", "no instance"),
        (b"cm\nA\n\x8c\x01xa.", "appends to a class"),
        (b"cm\nA\nNNs.", "sets items of a class"),
    ],
)
def test_tricks_that_no_pickler_writes_are_dangers(data, sentence):
    dangers: list[str] = []
    try:
        dangers = run(data, DEFAULT_LIMITS).dangers
    except UnsafeArtifactError as error:
        dangers = error.extra["reasons"]
    assert any(sentence in danger for danger in dangers)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"NN.",
        b"(N.",
        b"0.",
        b"h\x00.",
        b"q\x00.",
        b"Nq\x05.",
        b"Nr\xff\xff\xff\x7f.",
        b"g0\n.",
        b"Np-1\n.",
        b"\x80\x06N.",
        b"N0\x80\x02N.",
        b"\xff.",
        b"X\xff\xff\xff\xffab.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        b"T\xff\xff\xff\xffab.",
        b"X\x02\x00\x00\x00\xff\xfe.",
        b"I1_0\n.",
        b"I010\n.",
        b"I 1\n.",
        b"L0x10L\n.",
        b"F1_0.0\n.",
        b"Snot quoted\n.",
        b"S'\n.",
        b"\x8b\xff\xff\xff\xff.",
        b"\x97.",
        b"N\x98.",
        b"Pid\n.",
        b"NQ.",
        b"(N}u.",
        b"}(Nu.",
        b"}NNa.",
        b"]NNs.",
        b"]NNNs.",
        b"NNR.",
        b"]]R.",
        b"o.",
        b"(o.",
        b"l.",
        b"1.",
        b"NNNN\x92.",
        b"(I" + b"9" * 5000 + b"\nl.",
    ],
)
def test_a_broken_pickle_is_malformed(data):
    with pytest.raises(MalformedArtifactError):
        run(data, DEFAULT_LIMITS)


@pytest.mark.parametrize("code", sorted({ord(op.code) for op in pickletools.opcodes} - {STOP}))
def test_no_opcode_at_the_end_of_the_bytes_or_on_an_empty_stack_escapes(code):
    for tail in (b"", b"\x01", b"\x00" * 8, b"1\n2\n", b"."):
        try:
            run(bytes([code]) + tail, DEFAULT_LIMITS)
        except (MalformedArtifactError, UnsafeArtifactError) as error:
            assert error.detail  # noqa: PT017 - either error, or none


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_end_in_a_result_or_a_named_error(data):
    limits = Limits(opcodes=1000)
    try:
        assert run(data, limits).end <= len(data)
    except (MalformedArtifactError, UnsafeArtifactError) as error:
        assert error.detail  # noqa: PT017 - either error, or none


@settings(max_examples=200, deadline=None)
@given(value=values, protocol=st.integers(0, 5), position=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_changed_byte_ends_in_a_result_or_a_named_error(value, protocol, position, byte):
    data = bytearray(pickle.dumps(value, protocol))
    data[position % len(data)] = byte
    try:
        assert run(bytes(data), DEFAULT_LIMITS).end <= len(data)
    except (MalformedArtifactError, UnsafeArtifactError) as error:
        assert error.detail  # noqa: PT017 - either error, or none


@settings(max_examples=100, deadline=None)
@given(value=values, protocol=st.integers(0, 5), cut=st.integers(0, 400))
def test_a_pickle_of_which_bytes_are_missing_asks_for_more(value, protocol, cut):
    data = pickle.dumps(value, protocol)
    assert run_prefix(data[: cut % len(data)], DEFAULT_LIMITS) is None


def test_frames_must_hold_whole_opcodes_and_nothing_must_cross_them():
    inner = b"X\x02\x00\x00\x00ab."
    assert run(b"\x80\x04\x95" + struct.pack("<Q", len(inner)) + inner, DEFAULT_LIMITS).root == "ab"
    for length in (1, 5, len(inner) + 1):
        with pytest.raises(MalformedArtifactError):
            run(b"\x80\x04\x95" + struct.pack("<Q", length) + inner, DEFAULT_LIMITS)
    nested = b"\x95" + struct.pack("<Q", 2) + b"N."
    with pytest.raises(MalformedArtifactError):
        run(b"\x80\x04\x95" + struct.pack("<Q", len(nested)) + nested, DEFAULT_LIMITS)


def test_a_persistent_id_is_what_the_caller_makes_of_it():
    result = run(b"(X\x01\x00\x00\x00aK\x01tQ.", DEFAULT_LIMITS, persistent_load=PersistentRef)
    assert plain(result.root.value) == ("a", 1)


def test_a_broken_pickle_is_unsafe_when_something_dangerous_came_before():
    with pytest.raises(UnsafeArtifactError) as caught:
        run(b"cos\nsystem\n(S'touch marker'\ntR\xff", DEFAULT_LIMITS)
    assert caught.value.extra["globals"] == ["os.system"]


@pytest.mark.parametrize(
    "data",
    [
        b"N" + b"0N" * 2_000_000 + b".",
        b"(" * 200_000 + b".",
        b"N" + b"2" * 3_000_000 + b".",
        b"(" + b"}" * 3_000_000 + b"l.",
        b"(" + b"]" * 3_000_000 + b"l.",
        b"cm\nA\n" + b"(" + b"i\n\n" * 100_000 + b"l.",
        b"N" + b"".join(b"r" + struct.pack("<I", index) for index in range(1, 1_000_000, 2)) + b".",
        b"X"
        + struct.pack("<I", 50_000)
        + b"m" * 50_000
        + b"q\x00"
        + b"".join(b"h\x00X\x04\x00\x00\x00%04d\x930" % index for index in range(1_000))
        + b".",
    ],
    ids=["opcodes", "marks", "stack", "dicts", "lists", "inst", "memo", "names"],
)
def test_bombs_end_at_a_limit(data):
    limits = Limits(opcodes=1_000_000, machine_bytes=16 << 20)
    with pytest.raises((MalformedArtifactError, UnsafeArtifactError)):
        run(data, limits)


def test_deeply_nested_tuples_take_no_recursion():
    result = run(b")" + b"\x85" * 200_000 + b".", DEFAULT_LIMITS)
    depth, node = 0, result.root
    while node.items:
        node, depth = node.items[0], depth + 1
    assert depth == 200_000


def test_long_integers_stay_opaque():
    length = DEFAULT_LIMITS.long_bytes + 1
    root = run(b"\x8b" + struct.pack("<i", length) + b"\x01" * length + b".", DEFAULT_LIMITS).root
    assert isinstance(root, BigInt)
    assert len(root.data) == length


def test_python_2_strings_are_text_where_they_can_be():
    assert run(b"U\x02\xc3\xa9.", DEFAULT_LIMITS).root == "é"
    assert run(b"U\x01\xe9.", DEFAULT_LIMITS).root == b"\xe9"
    assert run(b"S'a\\x41\\n\\\\'\n.", DEFAULT_LIMITS).root == "aA\n\\"


def test_nodes_are_compared_by_identity():
    assert DictNode() != DictNode()
    assert Global("a", "b") != Global("a", "b")
