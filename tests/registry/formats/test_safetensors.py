import json
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import MalformedArtifactError, UnsupportedValueError
from registry.formats.limits import Limits
from registry.formats.reader import read
from registry.formats.safetensors import plan, read_safetensors
from registry.formats.source import BytesSource
from registry.torch.load import load_state_dict

DTYPES = [
    "float64", "float32", "float16", "bfloat16", "complex64", "int64", "int32", "int16", "int8", "uint64", "uint32",
    "uint16", "uint8", "bool", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn_x2",
]  # fmt: skip
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)
TENSORS = st.dictionaries(NAMES, st.tuples(st.sampled_from(DTYPES), SHAPES), max_size=6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def inspect(data):
    return read(BytesSource(data)).inspection


def pack(header, buffer=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + buffer


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def make(dtype, shape):
    kind = getattr(torch, dtype)
    itemsize = torch.empty(0, dtype=kind).element_size()
    count = itemsize * torch.Size(shape).numel()
    raw = torch.arange(count).to(torch.uint8) % 2 if dtype == "bool" else torch.arange(count).to(torch.uint8)
    return raw.view(kind).reshape(shape) if count else torch.empty(shape, dtype=kind)


def write(tensors, metadata=None):
    """What a caller of `plan` does: the header, then each tensor's bytes in the order of the offsets."""
    planned = plan([(name, each.dtype, each.shape, each.nbytes) for name, each in tensors.items()], metadata)
    data = planned.header
    for name, offset in planned.offsets.items():
        assert offset == len(data)
        data += tensors[name].data
    assert planned.size == len(data)
    return data, planned


class Tensor:
    def __init__(self, value):
        self.dtype = str(value.dtype).removeprefix("torch.")
        self.shape = tuple(value.shape)
        self.data = value.contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
        self.nbytes = len(self.data)


def loadable(tensors):
    """The library loads 4-bit tensors from files only, and none without dimensions."""
    return {name: spec for name, spec in tensors.items() if not spec[0].startswith("float4") or spec[1]}


@settings(max_examples=60, deadline=None)
@given(TENSORS, st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_what_the_library_writes_is_read_to_the_same_tensors(tensors, metadata):
    made = {name: make(*spec) for name, spec in loadable(tensors).items()}
    data = safetensors.torch.save(made, metadata or None)

    inspection = inspect(data)

    assert inspection.file_metadata == metadata
    assert {each.name for each in inspection.tensors} == set(made)
    for each in inspection.tensors:
        value = made[each.name]
        assert (each.dtype, each.shape, each.stride) == (
            str(value.dtype).removeprefix("torch."),
            tuple(value.shape),
            tuple(value.stride()),
        )
        assert data[each.file_offset : each.file_offset + each.nbytes] == Tensor(value).data


@settings(max_examples=60, deadline=None)
@given(TENSORS, st.dictionaries(TEXTS, TEXTS, max_size=3))
def test_what_is_planned_is_read_back_by_the_library_and_by_the_reader(tmp_path_factory, tensors, metadata):
    made = {name: make(*spec) for name, spec in loadable(tensors).items()}
    data, planned = write({name: Tensor(value) for name, value in made.items()}, metadata)
    path = tmp_path_factory.mktemp("planned") / "model.safetensors"
    path.write_bytes(data)

    loaded = safetensors.torch.load_file(path)

    assert loaded.keys() == made.keys()
    for name, value in loaded.items():
        assert value.dtype == made[name].dtype
        assert value.shape == made[name].shape
        assert Tensor(value).data == Tensor(made[name]).data
        assert planned.offsets[name] % made[name].element_size() == 0
    assert len(planned.header) % 64 == 0
    inspection = inspect(data)
    assert [each.name for each in inspection.tensors] == list(made)
    assert inspection.file_metadata == metadata


def test_six_bit_numbers_keep_the_name_that_the_format_gives_them():
    (tensor,) = inspect(pack({"a": entry("F6_E2M3", (2, 4), (0, 6))}, bytes(6))).tensors
    assert (tensor.dtype, tensor.shape, tensor.nbytes) == ("f6_e2m3", (2, 4), 6)


def test_an_odd_row_of_four_bit_numbers_has_no_torch_dtype():
    (tensor,) = inspect(pack({"a": entry("F4", (2, 3), (0, 3))}, bytes(3))).tensors
    assert (tensor.dtype, tensor.shape) == ("f4", (2, 3))


def test_batch_norm_statistics_are_buffers():
    made = {"bn.running_mean": torch.zeros(2), "running_var": torch.ones(2), "bn.weight": torch.ones(2)}
    roles = {each.name: each.role for each in inspect(safetensors.torch.save(made)).tensors}
    assert roles == {"bn.running_mean": "buffer", "running_var": "buffer", "bn.weight": "unknown"}


def test_a_file_without_tensors_is_read():
    assert inspect(pack({})).tensors == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (pack({"a": entry()}, bytes(7)), "truncated, or something follows"),
        (pack({"a": entry()}, bytes(9)), "truncated, or something follows"),
        (pack({"a": entry(offsets=(1, 9))}, bytes(9)), "overlap"),
        (pack({"a": entry(), "b": entry()}, bytes(8)), "overlap"),
        (pack({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "between"),
        (pack({"a": entry(shape=(3,))}, bytes(8)), "do not make 3 elements"),
        (pack({"a": entry("F6_E2M3", (1,), (0, 1))}, bytes(1)), "do not make 1 elements"),
        (pack({"a": entry("F128")}, bytes(8)), "unknown dtype"),
        (pack({"a": entry(dtype=["F32"])}, bytes(8)), "unknown dtype"),
        (pack({"a": entry(shape=(True, 2))}, bytes(8)), "no lists of sizes"),
        (pack({"a": entry(shape=(2.0,))}, bytes(8)), "no lists of sizes"),
        (pack({"a": entry(shape=(-1, -2))}, bytes(8)), "no lists of sizes"),
        (pack({"a": entry(offsets=(0, 8, 8))}, bytes(8)), "no lists of sizes"),
        (pack({"a": entry(shape=(1,) * 65)}, bytes(8)), "no lists of sizes"),
        (pack({"a": entry(shape=(2**40, 2**40, 0), offsets=(0, 8))}, bytes(8)), "do not make 0 elements"),
        (pack({"a": entry(extra=1)}, bytes(8)), "exactly the fields"),
        (pack({"a": [1]}, b""), "exactly the fields"),
        (pack({"__metadata__": {"a": 1}}), "no map of texts"),
        (pack({"__metadata__": []}), "no map of texts"),
        (pack(b'{"a":{},"a":{}}'), "repeats a key"),
        (pack(b'{"a":NaN}'), "NaN"),
        (pack(b'{"a":' + b"9" * 5000 + b"}"), "20 digits"),
        (pack(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "64 deep"),
        (pack(b'{"\\ud800":{}}'), "valid UTF-8"),
        (pack(b'{"\xff":{}}'), "valid UTF-8"),
        (pack(b'{"a":'), "valid JSON"),
        (pack(b"{}\0\0\0"), "valid JSON"),
        (pack({"a" * 70_000: entry()}, bytes(8)), "name is longer"),
    ],
)
def test_a_file_that_is_not_strictly_safetensors_is_refused(data, says):
    with pytest.raises(MalformedArtifactError, match=says):
        inspect(data)


@pytest.mark.parametrize("shape", [[1 << 64, 0], [1 << 63, 0], [1 << 40, 1 << 40, 0], [0, 1 << 40, 1 << 40]])
def test_sizes_beyond_64_bits_are_refused_also_where_there_is_no_element(shape):
    data = pack({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}})
    with pytest.raises((safetensors.SafetensorError, TypeError, RuntimeError)):
        safetensors.torch.load(data)
    with pytest.raises(MalformedArtifactError, match="elements"):
        inspect(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "shorter"),
        (pack(b" {}"), "no JSON object"),
        (pack(b"[]"), "no JSON object"),
        (pack(b"{}", length=3), "truncated"),
        (pack(b"{}", length=100_000_001), "100000001"),
    ],
)
def test_a_header_that_is_none_is_refused(data, says):
    with pytest.raises(MalformedArtifactError, match=says):
        read_safetensors(BytesSource(data))


def test_more_names_than_the_limit_are_refused():
    header = {str(number): entry(shape=(0,), offsets=(0, 0)) for number in range(11)}
    with pytest.raises(MalformedArtifactError, match="more than 10 tensors"):
        read_safetensors(BytesSource(pack(header)), Limits(names=10))


@given(st.binary(max_size=64), st.integers(0, 200))
def test_bytes_put_anywhere_are_read_or_refused(junk, at):
    data = safetensors.torch.save({"a": torch.ones(3), "b": torch.zeros(2, dtype=torch.int8)})
    changed = data[:at] + junk + data[at + len(junk) :]
    try:
        inspection = read_safetensors(BytesSource(changed)).inspection
    except MalformedArtifactError:
        return
    assert sum(each.nbytes for each in inspection.tensors) <= len(changed)


@pytest.mark.parametrize("dtype", ["complex128", "qint8", "complex32", "f6_e2m3"])
def test_a_dtype_that_the_format_lacks_is_named(dtype):
    with pytest.raises(UnsupportedValueError, match=dtype):
        plan([("a", dtype, (1,), 1)])


def test_a_name_taken_twice_or_reserved_or_not_unicode_is_refused():
    with pytest.raises(UnsupportedValueError, match="one name"):
        plan([("a", "uint8", (1,), 1), ("a", "uint8", (1,), 1)])
    with pytest.raises(UnsupportedValueError, match="__metadata__"):
        plan([("__metadata__", "uint8", (1,), 1)])
    with pytest.raises(UnsupportedValueError, match="Unicode"):
        plan([("\ud800", "uint8", (1,), 1)])


def test_a_size_that_does_not_fit_the_shape_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="cannot have 3 bytes"):
        plan([("a", "float32", (1,), 3)])


@pytest.mark.parametrize("depth", [63, 64])
def test_nesting_is_counted_outside_of_texts(depth):
    header = b'{"__metadata__":{"a":"[[[{{{"},"b":' + b"[" * depth + b"]" * depth + b"}"
    says = "exactly the fields" if depth < 64 else "64 deep"
    with pytest.raises(MalformedArtifactError, match=says):
        inspect(pack(header))


@pytest.mark.parametrize(
    "header",
    [
        b'{"' + b'\\"' * 30_000_000,
        b"{" + b'""' * 30_000_000,
        b'{"a":[' + b"[]," * 20_000_000 + b"1]}",
        b'{"a":[' + b"1," * 30_000_000 + b"1]}",
        b'{"a":' + b"[" * 60_000_000,
    ],
    ids=["escaped quotes", "texts", "lists", "numbers", "depth"],
)
def test_a_header_that_is_all_values_is_refused_before_it_is_parsed(header):
    with pytest.raises(MalformedArtifactError, match=r"too many values|longer than what it describes"):
        inspect(pack(header))


@pytest.mark.parametrize("code", ["F6_E2M3", "F6_E3M2"])
def test_numbers_that_torch_lacks_are_inspected_and_refused_by_name_when_they_are_pulled(code, tmp_path):
    header = {"odd": entry(code, (4,), (0, 3)), "usual": entry("F32", (1,), (3, 7))}
    (tmp_path / "net.safetensors").write_bytes(pack(header, bytes(7)))
    assert len(inspect((tmp_path / "net.safetensors").read_bytes()).tensors) == 2
    with pytest.raises(UnsupportedValueError, match=code.lower()):
        load_state_dict([tmp_path / "net.safetensors"])
    assert list(load_state_dict([tmp_path / "net.safetensors"], exclude="odd")) == ["usual"]


@settings(max_examples=40, deadline=None)
@given(TENSORS)
def test_every_dtype_that_torch_has_is_pulled_as_the_library_loads_it(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp("pulled") / "net.safetensors"
    made = {name: make(*spec) for name, spec in loadable(tensors).items()}
    safetensors.torch.save_file(made, path)
    loaded, pulled = safetensors.torch.load_file(path), load_state_dict([path])
    assert pulled.keys() == loaded.keys()
    for name, tensor in loaded.items():
        assert (pulled[name].dtype, pulled[name].shape) == (tensor.dtype, tensor.shape)
        assert bytes(pulled[name].contiguous().untyped_storage())[: tensor.nbytes] == bytes(tensor.untyped_storage())
