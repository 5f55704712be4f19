"""What torch and numpy refuse while a file is loaded is malformed; what their picklers write is not."""

# ruff: noqa: FBT003 - torch and numpy take truth values by position

import collections
import io
import struct

import numpy as np
import pytest
import torch
from corpus.archives import checkpoint_records, torch_zip, zip_bytes
from corpus.assembly import PROTO_2, STOP, called, named, storage, tensor, text, value
from corpus.cases import answer

from registry.errors import MalformedArtifactError
from registry.formats.reader import read
from registry.formats.source import BytesSource

FLOAT32 = called("numpy:dtype", "f4", False, True) + value((3, "<", None, None, None, -1, -1, 0)) + b"b"
SCALAR, RECONSTRUCT = "numpy._core.multiarray:scalar", "numpy._core.multiarray:_reconstruct"
NDARRAY = named("numpy:ndarray")
INTEGERS = storage(kind="torch:IntStorage")
HOOKS = called("collections:OrderedDict", [["a", 1]])
FOUR_BYTES = called("_codecs:encode", "abcd", "latin1")


def float32(*state):
    return called("numpy:dtype", "f4", False, True) + value(state) + b"b"


def array(*state):
    return called(RECONSTRUCT, NDARRAY, (0,), b"C\1b") + value(state) + b"b"


REFUSED = {
    "pairs that are none": called("collections:OrderedDict", [1]),
    "two arguments": called("collections:OrderedDict", [], []),
    "attributes without names": called("collections:OrderedDict") + value({1: 2}) + b"b",
    "constructed": named("collections:OrderedDict") + b")\x81",
    "counted list": called("collections:Counter", [1]),
    "set of a number": called("builtins:set", 1),
    "set of lists": called("builtins:set", [[]]),
    "bytes by their number": called("builtins:bytearray", 1 << 30),
    "bytes in another encoding": called("_codecs:encode", "abc", "zip"),
    "bytes of a wide text": called("_codecs:encode", "\u0100", "latin1"),
    "complex of texts": called("builtins:complex", "1", "2"),
    "size of texts": called("torch:Size", ("1",)),
    "device of a number": called("torch:device", 1),
    "device with a space": called("torch:device", "touch marker"),
    "device of two numbers": called("torch:device", "cuda:0", 1),
    "device of a number with a zero before it": called("torch:device", "cuda:01"),
    "device of too high a number": called("torch:device", "cuda:128"),
    "layout that is none": called("torch.serialization:_get_layout", "torch.none"),
    "dtype that is none": called("numpy:dtype", "x9", False, True),
    "dtype in no order": float32(3, "!", None, None, None, -1, -1, 0),
    "dtype of another version": float32(9, "<", None, None, None, -1, -1, 0),
    "dtype of objects": float32(3, "<", None, None, None, -1, -1, 63),
    "dtype with fields": float32(3, "<", None, ("a",), {}, -1, -1, 0),
    "scalar without bytes": called(SCALAR, FLOAT32),
    "scalar of other bytes": called(SCALAR, FLOAT32, called("_codecs:encode", "ab", "latin1")),
    "array of another kind": called(RECONSTRUCT, named("torch:Tensor"), (0,), b"C\1b"),
    "array of other bytes": array(1, (3,), FLOAT32, False, FOUR_BYTES),
    "array of a negative size": array(1, (-1,), FLOAT32, False, FOUR_BYTES),
    "list as a key": b"}" + value([]) + value(1) + b"s",
    "tuple of a dict as a key": b"}" + value(({},)) + value(1) + b"s",
    "ordered dict as a key": b"}" + called("collections:OrderedDict") + value(1) + b"s",
    "dict in a set": b"\x8f(}\x90",
    "list in a frozenset": b"(]\x91",
    "gradient of integers": called(
        "torch._utils:_rebuild_tensor_v2", storage(kind="torch:IntStorage"), 0, (4,), (1,), True, None
    ),
    "parameter of integers": called("torch._utils:_rebuild_parameter", tensor(INTEGERS), True, None),
    "backward hooks": called(
        "torch._utils:_rebuild_tensor_v2", storage(), 0, (4,), (1,), False, HOOKS
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_call_that_no_pickler_writes_is_malformed(name):
    verdict, _, reasons = answer(torch_zip(PROTO_2 + b"}" + text("x") + REFUSED[name] + b"s" + STOP))
    assert verdict == "malformed_artifact", reasons


@pytest.mark.parametrize(
    "kept",
    [
        np.float32(1), np.datetime64("2026-01-01"), np.array(["ab", "c"]), np.array([b"ab"]), np.bool_(1),
        np.zeros(2, [("a", "<f4"), ("b", "<i8")]), np.longdouble(1), np.asfortranarray(np.ones((2, 3))),
        np.void(b"abc"),
        collections.Counter("ab"), {1, (2, (3,))}, bytearray(b""), bytearray(b"\xff"), 1j, torch.Size([]),
        torch.device("cuda", 3), torch.device("mps"), {(1, "a"): 2, None: 3, 1.5: 4, b"x": 5, True: 6},
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_picklers_write_is_nothing_but_tensors(kept, protocol):
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(1), "kept": kept}, buffer, pickle_protocol=protocol)
    verdict, _, reasons = answer(buffer.getvalue())
    assert verdict == "tensors", reasons


@pytest.mark.parametrize("keys", [(0, False), (1, True), (True, 1), (2, 2.0), ("w", "w")], ids=repr)
def test_equal_keys_are_one_and_named_by_the_first_as_a_dict_has_them(keys):
    first, second = (b"\x88" if key is True else b"\x89" if key is False else value_of(key) for key in keys)
    pickled = PROTO_2 + b"}(" + first + tensor() + second + tensor(shape=(2,)) + b"u" + STOP
    _, inspection, _ = answer(torch_zip(pickled))
    loaded = torch.load(io.BytesIO(torch_zip(pickled)), weights_only=True)
    assert [(each.name, each.shape) for each in inspection.tensors] == [(str(key), (2,)) for key in loaded]


def value_of(key):
    return b"G" + struct.pack(">d", key) if isinstance(key, float) else value(key)


@pytest.mark.parametrize(
    ("made", "grown"),
    [
        (named("collections:Counter") + b"}q\x00\x85R", b"h\x00" + text("seen") + b"K\x01s0"),
        (named("collections:OrderedDict") + b"]q\x00\x85R", b"h\x00" + value(("seen", 1)) + b"a0"),
        (named("torch:Size") + b"]q\x00\x85R", b"h\x00K\x01a0"),
    ],
)
def test_a_copy_of_what_grows_afterwards_is_refused(made, grown):
    data = PROTO_2 + b"}" + text("w") + made + grown + b"s" + STOP

    with pytest.raises(MalformedArtifactError, match="adds to what it was made of"):
        read(BytesSource(zip_bytes(checkpoint_records(data))))


def test_a_copy_of_what_stays_as_it_was_is_taken():
    made = named("collections:Counter") + value({"seen": 1}) + b"\x85R"
    data = PROTO_2 + b"}" + text("w") + made + b"s" + STOP

    assert read(BytesSource(zip_bytes(checkpoint_records(data)))).inspection.trust == "tensors"
