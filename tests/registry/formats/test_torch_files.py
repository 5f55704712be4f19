"""Whatever torch.save writes is read to what torch itself says of it."""

import argparse
import collections
import io
import zipfile

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import MalformedArtifactError

WRITERS = [(True, 2), (True, 3), (True, 4), (True, 5), (False, 2), (False, 4)]
PLAIN_DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip
UNTYPED_DTYPES = [
    torch.float8_e5m2, torch.float8_e4m3fn, torch.float8_e5m2fnuz, torch.float8_e4m3fnuz, torch.float8_e8m0fnu,
    torch.uint16, torch.uint32, torch.uint64, torch.complex32, torch.float4_e2m1fn_x2,
]  # fmt: skip


def random_tensor(dtype, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = int(np.prod(shape, dtype=np.int64))
    raw = torch.randint(0, 2, (count * dtype.itemsize,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype).reshape(shape) if dtype is not torch.bool else raw.bool().reshape(shape)


def flatten(value, path=()):
    """Yield the tensors of nested dicts and lists as torch holds them, with their keys."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from flatten(member, (*path, key))
    elif isinstance(value, list | tuple):
        for position, member in enumerate(value):
            yield from flatten(member, (*path, position))


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(PLAIN_DTYPES + UNTYPED_DTYPES[:8]))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    tensor = random_tensor(dtype, shape, draw(st.integers(0, 9)))
    shift = draw(st.sampled_from(["none", "transpose", "narrow", "expand"]))
    if shift == "transpose" and tensor.dim() > 1:
        tensor = tensor.transpose(0, -1)
    elif shift == "narrow" and tensor.dim() and tensor.shape[0] > 1:
        tensor = tensor.narrow(0, 1, tensor.shape[0] - 1)
    elif shift == "expand":
        tensor = tensor.unsqueeze(0).expand(3, *tensor.shape)
    if dtype.is_floating_point and dtype.itemsize > 1 and draw(st.booleans()):
        tensor = torch.nn.Parameter(tensor, requires_grad=draw(st.booleans()))
    return tensor


keys = st.one_of(st.text(max_size=8), st.integers(-5, 5))
nested = st.recursive(
    st.one_of(tensors(), st.integers(), st.floats(), st.text(max_size=5), st.none(), st.booleans()),
    lambda inner: st.one_of(st.dictionaries(keys, inner, max_size=4), st.lists(inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.dictionaries(keys, nested, max_size=5), writer=st.sampled_from(WRITERS))
def test_any_nested_value_is_read_as_torch_wrote_it(value, writer, save, inspect, assert_same_tensor):
    zipped, protocol = writer
    data = save(value, zipped=zipped, protocol=protocol)

    inspection = inspect(data)

    expected = dict(flatten(value))
    assert inspection.trust == "tensors"
    assert [record.path for record in inspection.tensors] == list(expected)
    for record in inspection.tensors:
        assert record.name == ".".join(map(str, record.path))
        assert_same_tensor(record, expected[record.path], inspection, data)


@pytest.mark.parametrize(("zipped", "protocol"), WRITERS)
def test_tied_and_shared_tensors_name_one_storage(zipped, protocol, save, inspect):
    weight = torch.arange(12.0)
    inspection = inspect(
        save({"a": weight, "b": weight, "half": weight[6:], "own": weight.clone()}, zipped=zipped, protocol=protocol)
    )
    a, b, half, own = inspection.tensors
    assert a.storage_key == b.storage_key == half.storage_key != own.storage_key
    assert (half.storage_offset, half.file_offset) == (6, a.file_offset + 24)
    assert len(inspection.storages) == 2


@pytest.mark.parametrize("dtype", PLAIN_DTYPES + UNTYPED_DTYPES, ids=str)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_dtype_is_read(dtype, zipped, save, inspect, assert_same_tensor):
    tensor = random_tensor(dtype, (4, 6))
    data = save({"x": tensor[1:]}, zipped=zipped)
    inspection = inspect(data)
    assert_same_tensor(inspection.tensors[0], tensor[1:], inspection, data)


@pytest.mark.parametrize("make", [torchvision.models.resnet18, lambda: timm.create_model("test_vit")])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_real_state_dict_is_one(make, zipped, save, inspect, assert_same_tensor):
    state_dict = make().state_dict()
    data = save(state_dict, zipped=zipped)
    inspection = inspect(data)
    assert (inspection.kind, inspection.trust, inspection.parts) == ("state_dict", "tensors", [])
    assert [record.name for record in inspection.tensors] == list(state_dict)
    assert {record.part for record in inspection.tensors} == {None}
    assert inspection.metadata[""] == {name: dict(value) for name, value in state_dict._metadata.items()}
    for record in inspection.tensors:
        assert_same_tensor(record, state_dict[record.name], inspection, data)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_full_module_is_read_to_the_names_of_its_state_dict(zipped, save, inspect, assert_same_tensor):
    module = torchvision.models.resnet18()
    data = save(module, zipped=zipped)
    inspection = inspect(data)
    assert (inspection.kind, inspection.trust) == ("module", "code")
    records = {record.name: record for record in inspection.tensors}
    assert set(records) == set(module.state_dict())
    assert [n for n, r in records.items() if r.role == "parameter"] == [n for n, _ in module.named_parameters()]
    assert [n for n, r in records.items() if r.role == "buffer"] == [n for n, _ in module.named_buffers()]
    for name, tensor in module.named_parameters():
        assert_same_tensor(records[name], tensor, inspection, data)
    assert "torchvision.models.resnet.ResNet" in inspection.foreign_globals


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet", "test_nfnet"])
def test_whole_timm_modules_are_code_and_not_blamed(name, save, inspect):
    module = timm.create_model(name)
    inspection = inspect(save(module))
    assert (inspection.kind, inspection.trust) == ("module", "code")
    persistent = {r.name for r in inspection.tensors if r.role in {"parameter", "buffer"}}
    assert persistent == set(module.state_dict())


def test_legacy_files_carry_the_source_of_their_classes(save, inspect):
    inspection = inspect(save(torch.nn.Linear(2, 2), zipped=False))
    assert "class Linear" in inspection.sources["torch.nn.modules.linear.Linear"]
    assert inspection.kind == "module"


class Tricky(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(2, 2, bias=False)
        self.second = torch.nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("kept", torch.zeros(3))
        self.register_buffer("temporary", torch.zeros(4), persistent=False)
        self.register_buffer("missing", None)
        self.plain = torch.ones(5)


def test_roles_within_a_module_are_told_apart(save, inspect):
    records = {each.name: each for each in inspect(save(torch.nn.DataParallel(Tricky()))).tensors}
    roles = {name: record.role for name, record in records.items()}
    assert roles == {
        "module.first.weight": "parameter",
        "module.second.weight": "parameter",
        "module.kept": "buffer",
        "module.temporary": "non_persistent_buffer",
        "module.plain": "attribute",
    }
    assert records["module.first.weight"].storage_key == records["module.second.weight"].storage_key


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised within torch's compiler
def test_a_compiled_module_is_code_and_keeps_its_wrapper_in_the_names(save, inspect):
    inspection = inspect(save(torch.compile(torch.nn.Linear(2, 2))))
    assert (inspection.kind, inspection.trust) == ("module", "code")
    assert [record.name for record in inspection.tensors] == ["_orig_mod.weight", "_orig_mod.bias"]
    assert any("absolute paths" in reason for reason in inspection.reasons)


def test_a_checkpoint_is_read_to_parts_scalars_and_optimizer_state(save, inspect):
    module = torchvision.models.resnet18(num_classes=2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    sum(parameter.sum() for parameter in module.parameters()).backward()
    optimizer.step()
    data = save(
        {
            "epoch": 3,
            "state_dict": module.state_dict(),
            "state_dict_ema": {name: value.clone() for name, value in module.state_dict().items()},
            "optimizer": optimizer.state_dict(),
            "best": np.float64(0.75),
            "metrics": {"top1": 0.5, "confusion": [1, 2, 3], "note": "ok", "done": True},
            "rng": torch.get_rng_state(),
        }
    )
    inspection = inspect(data)
    assert (inspection.kind, inspection.trust) == ("checkpoint", "tensors")
    assert inspection.parts == ["state_dict", "state_dict_ema"]
    assert inspection.scalars["epoch"] == 3
    assert inspection.scalars["best"] == 0.75
    assert inspection.scalars["metrics.confusion"] == [1, 2, 3]
    assert inspection.scalars["metrics.done"] is True
    assert inspection.scalars["optimizer.param_groups.0.lr"] == 0.01
    by_part = collections.Counter(record.part for record in inspection.tensors)
    assert by_part["state_dict"] == by_part["state_dict_ema"] == len(module.state_dict())
    moments = [r for r in inspection.tensors if r.path[:1] == ("optimizer",)]
    assert {r.role for r in moments} == {"optimizer"}
    assert moments[0].path == ("optimizer", "state", 0, "step")
    assert inspection.metadata["state_dict"][""] == {"version": 1}


def test_a_namespace_of_hyper_parameters_is_code_of_data_classes_only(save, inspect):
    inspection = inspect(save({"model": {"w": torch.zeros(1)}, "args": argparse.Namespace(lr=0.1, name="detr")}))
    assert inspection.trust == "code"
    assert inspection.reasons[0].startswith("data_classes_only")
    assert inspection.scalars == {"args.lr": 0.1, "args.name": "detr"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(1.5), 1.5),
        (np.int64(-7), -7),
        (np.bool_(1), True),
        (np.float16(0.5), 0.5),
        (np.uint8(200), 200),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_scalars_become_plain_numbers(value, expected, protocol, save, inspect):
    inspection = inspect(save({"x": {"w": torch.zeros(1)}, "value": value}, protocol=protocol))
    assert inspection.scalars == {"value": expected}
    assert inspection.trust == "tensors"


def test_a_numpy_array_is_data_unless_it_holds_objects(save, inspect):
    assert inspect(save({"a": np.zeros((2, 3)), "b": torch.zeros(1)})).trust == "tensors"
    assert inspect(save({"a": np.array([{}, None], dtype=object), "b": torch.zeros(1)})).trust == "code"


def test_conjugate_and_negative_bits_are_kept(save, inspect):
    values = torch.tensor([1 + 2j, 3 + 4j])
    (conjugate,) = inspect(save({"c": values.conj()})).tensors
    (imaginary,) = inspect(save({"n": values.conj().imag})).tensors
    assert (conjugate.conj, conjugate.neg) == (True, False)
    assert (imaginary.conj, imaginary.neg, imaginary.dtype) == (False, True, "float32")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_tensors_keep_their_parameters(save, inspect):
    per_tensor = torch.quantize_per_tensor(torch.rand(2, 3), 0.25, 3, torch.qint8)
    per_channel = torch.quantize_per_channel(
        torch.rand(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.quint8
    )
    first, second = inspect(save({"a": per_tensor, "b": per_channel})).tensors
    assert (first.dtype, first.nbytes) == ("qint8", 6)
    assert first.quantisation == {"scheme": "per_tensor_affine", "scale": 0.25, "zero_point": 3}
    assert second.quantisation == {"scheme": "per_channel_affine", "axis": 0}
    assert second.components["scales"].shape == second.components["zero_points"].shape == (2,)
    assert second.components["scales"].dtype == "float64"


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_elements_of_half_a_byte_are_read(save, inspect):
    scales, zeros = torch.tensor([0.1, 0.2]), torch.tensor([0.0, 0.0])
    packed = torch.quantize_per_channel(torch.rand(2, 5), scales, zeros, 0, torch.quint4x2)
    (record,) = inspect(save({"x": packed})).tensors
    assert (record.dtype, record.shape, record.nbytes) == ("quint4x2", (2, 5), 5)
    assert record.quantisation == {"scheme": "per_channel_affine", "axis": 0}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_the_packed_weights_of_a_quantised_module_are_found(save, inspect):
    module = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 3)), dtype=torch.qint8)
    whole, state_dict = inspect(save(module)), inspect(save(module.state_dict()))
    assert (whole.trust, state_dict.trust, state_dict.kind) == ("code", "tensors", "state_dict")
    packed = "0._packed_params._packed_params"
    assert [t.dtype for t in state_dict.tensors if t.name.startswith(packed)] == ["qint8", "float32"]
    assert [record.name for record in whole.tensors] == [f"{packed}.0.0", f"{packed}.0.1"]  # its ScriptObject's state
    assert {packed, "0._packed_params.dtype"} == {entry.name for entry in state_dict.entries}


@pytest.mark.parametrize("layout", ["coo", "csr", "csc", "bsr", "bsc"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_are_read_to_their_components(layout, save, inspect):
    dense = torch.eye(4)
    make = {
        "coo": dense.to_sparse_coo,
        "csr": dense.to_sparse_csr,
        "csc": dense.to_sparse_csc,
        "bsr": lambda: dense.to_sparse_bsr((2, 2)),
        "bsc": lambda: dense.to_sparse_bsc((2, 2)),
    }[layout]
    (record,) = inspect(save({"s": make()})).tensors
    assert (record.layout, record.shape, record.dtype) == (f"sparse_{layout}", (4, 4), "float32")
    assert record.storage_key is None
    assert record.nbytes == sum(part.nbytes for part in record.components.values())
    assert record.components["values"].storage_key is not None


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_and_meta_tensors_are_read(save, inspect):
    nested_tensor = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)])
    meta = torch.empty(5, 6, device="meta")
    first, second = inspect(save({"n": nested_tensor, "m": meta})).tensors
    assert (first.layout, first.components["buffer"].shape) == ("nested", (18,))
    assert (second.device, second.shape, second.storage_key, second.file_offset) == ("meta", (5, 6), None, None)


def test_extra_state_and_quantisation_parameters_are_entries(save, inspect):
    state_dict = torch.nn.Linear(2, 2).state_dict()
    state_dict["_extra_state"] = {"scale": 2, "names": ["a"]}
    state_dict["dtype"] = torch.qint8
    inspection = inspect(save(state_dict))
    assert inspection.kind == "state_dict"
    entries = {entry.name: entry for entry in inspection.entries}
    assert entries["_extra_state"].value == {"scale": 2, "names": ["a"]}
    assert (entries["dtype"].type_name, entries["dtype"].value) == ("torch.dtype", "torch.qint8")


def test_attributes_of_a_parameter_and_tensor_subclasses_are_read(save, inspect):
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.tag = "x"
    (record,) = inspect(save({"p": parameter})).tensors
    assert (record.role, record.requires_grad) == ("parameter", True)


def test_a_big_endian_file_says_so(inspect):
    previous = torch.serialization.get_default_load_endianness()
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(4.0)}, buffer)
    data = rezip(buffer.getvalue(), {"byteorder": b"big"})
    inspection = inspect(data)
    assert [storage.big_endian for storage in inspection.storages] == [True]
    assert torch.serialization.get_default_load_endianness() == previous


def rezip(data, replaced=None, compression=zipfile.ZIP_STORED, drop=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            short = name.partition("/")[2]
            if short not in drop:
                new.writestr(name, (replaced or {}).get(short, old.read(name)))
    return buffer.getvalue()


def test_a_file_packed_again_is_read_without_offsets_where_it_is_compressed(save, inspect):
    data = save({"a": torch.arange(64.0)})
    stored = inspect(rezip(data))
    assert data[stored.tensors[0].file_offset :][:0] == b""
    packed = inspect(rezip(data, compression=zipfile.ZIP_DEFLATED))
    assert (packed.tensors[0].file_offset, packed.storages[0].file_offset) == (None, None)
    assert packed.storages[0].nbytes == 256


def test_files_of_older_torch_lack_the_newer_records(save, inspect):
    drop = ("byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
    assert len(inspect(rezip(save({"a": torch.zeros(2)}), drop=drop)).tensors) == 1


@pytest.mark.parametrize(
    ("record", "content"),
    [("byteorder", b"middle"), ("version", b"11"), ("version", b"x"), (".storage_alignment", b"many")],
)
def test_small_records_that_make_no_sense_are_refused(record, content, save, inspect):
    with pytest.raises(MalformedArtifactError):
        inspect(rezip(save({"a": torch.zeros(2)}), {record: content}))


@pytest.mark.parametrize("content", [b"short", bytes(64)])
def test_a_storage_of_another_size_than_the_pickle_says_is_refused(content, save, inspect):
    with pytest.raises(MalformedArtifactError, match="bytes, the pickle says"):
        inspect(rezip(save({"a": torch.zeros(2)}), {"data/0": content}))


def test_a_missing_storage_is_refused(save, inspect):
    with pytest.raises(MalformedArtifactError, match="missing"):
        inspect(rezip(save({"a": torch.zeros(2)}), drop=("data/0",)))


@pytest.mark.parametrize("value", [torch.zeros(2), [torch.zeros(2), 3], (torch.zeros(1),)])
def test_a_bare_tensor_or_list_is_a_checkpoint(value, save, inspect):
    inspection = inspect(save(value))
    assert inspection.kind == "checkpoint"
    assert len(inspection.tensors) == 1


def test_a_bare_storage_is_an_entry(save, inspect):
    inspection = inspect(save({"s": torch.zeros(3).untyped_storage(), "t": {"w": torch.zeros(1)}}))
    assert [entry.name for entry in inspection.entries] == ["s"]
    assert len(inspection.storages) == 2


def test_bytes_after_a_legacy_file_or_cut_off_it_are_refused(save, inspect):
    data = save({"a": torch.zeros(5)}, zipped=False)
    for broken in (data + b"x", data[:-1], data[:200]):
        with pytest.raises(MalformedArtifactError):
            inspect(broken)


def test_a_vocabulary_in_a_checkpoint_is_not_listed_word_by_word(save, inspect):
    words = {f"word{number}": number for number in range(3000)}
    inspection = inspect(save({"epoch": 3, "vocabulary": words, "state_dict": {"w": torch.ones(2)}, "lr": 0.1}))
    assert inspection.scalars == {"epoch": 3, "lr": 0.1}
    assert [each.name for each in inspection.tensors] == ["state_dict.w"]
    huge = {f"word{number}": number for number in range(250_000)}
    assert inspect(save({"epoch": 3, "vocabulary": huge})).scalars == {"epoch": 3}
