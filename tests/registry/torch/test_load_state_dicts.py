import os
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from registry.errors import (
    AmbiguousWeightsError,
    InvalidRequestError,
    MalformedArtifactError,
    NoWeightsError,
    UnsafeArtifactError,
    UnsupportedValueError,
)
from registry.state_dict import EmaPartWarning

QUANTISED = pytest.mark.filterwarnings(
    "ignore:.*other quantized tensor creation:UserWarning", "ignore:TypedStorage is deprecated:UserWarning"
)

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
    torch.complex128, torch.complex64, torch.complex32,
    torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool,
]  # fmt: skip


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.register_buffer("scratch", torch.ones(3), persistent=False)
        self.register_buffer("absent", None)
        self.note = torch.zeros(2)


class WithExtraState(nn.Linear):
    def get_extra_state(self):
        return {"scale": torch.tensor([0.5, 2.0]), "steps": 7, "names": ("a", "b")}

    def set_extra_state(self, state):
        self.restored = state


class Foreign:
    pass


def bytes_to(dtype, count=8):
    """A tensor of any dtype, filled bit by bit."""
    raw = torch.arange(count * dtype.itemsize, dtype=torch.int64).to(torch.uint8)
    return (raw % 2).to(torch.bool) if dtype is torch.bool else raw.view(dtype)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_comes_back_as_torch_loads_it(save, truth, load, assert_same, legacy):
    path = save(Net().state_dict(), _use_new_zipfile_serialization=not legacy)

    assert_same(load(path), truth(path))


def test_a_restored_state_dict_loads_into_its_module(save, load):
    source, target = Net(), Net()

    target.load_state_dict(load(save(source.state_dict())), strict=True)

    assert torch.equal(target.conv.weight, source.conv.weight)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_bit_for_bit(save, load, assert_same, dtype, legacy):
    values = bytes_to(dtype)
    state_dict = OrderedDict(matrix=values.reshape(2, 4), scalar=values[3].clone(), empty=values[:0].clone())
    path = save(state_dict, _use_new_zipfile_serialization=not legacy)

    assert_same(load(path), state_dict)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_reads_alike(save, truth, load, assert_same, protocol):
    path = save(Net().state_dict(), pickle_protocol=protocol)

    assert_same(load(path), truth(path))


def test_views_keep_offset_and_stride_and_share_their_storage(save, truth, load, assert_same):
    base = torch.arange(24.0).reshape(4, 6)
    path = save(OrderedDict(base=base, turned=base.t(), column=base[:, 2], row=base[1], wide=base[:1, :1].expand(4, 5)))

    found = load(path)

    assert_same(found, truth(path))
    assert len({each.untyped_storage().data_ptr() for each in found.values()}) == 1


def test_tied_weights_are_tied_again(save, load):
    weight = nn.Parameter(torch.ones(2, 2))
    found = load(save({"encoder.weight": weight, "decoder.weight": weight, "view": weight.detach()[0]}))

    assert found["encoder.weight"] is found["decoder.weight"]
    with torch.no_grad():
        found["encoder.weight"].zero_()
    assert found["view"].tolist() == [0, 0]


def test_parameters_come_back_as_parameters_with_their_gradient_flag(save, truth, load, assert_same):
    path = save({"weight": nn.Parameter(torch.ones(2)), "frozen": nn.Parameter(torch.ones(2), requires_grad=False)})

    assert_same(dict(load(path)), truth(path))


def test_python_attributes_of_tensors_come_back(save, truth, load, assert_same):
    path = save({"buffer": nn.Buffer(torch.ones(2)), "weight": torch.ones(1)})

    assert_same(dict(load(path)), truth(path))


def test_lazily_conjugated_and_negated_tensors_stay_lazy(save, truth, load, assert_same):
    values = torch.tensor([1 + 2j, 3 - 4j])
    path = save({"conj": values.conj(), "plain": values, "neg": values.clone().conj().imag})

    assert_same(dict(load(path)), truth(path))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc], ids=str)
def test_sparse_tensors_come_back(save, truth, load, assert_same, layout):
    path = save({"sparse": torch.eye(4).to_sparse(layout=layout)})

    assert_same(dict(load(path)), truth(path))


def test_block_sparse_tensors_come_back(save, truth, load, assert_same):
    path = save({"bsr": torch.eye(4).to_sparse_bsr((2, 2)), "bsc": torch.eye(4).to_sparse_bsc((2, 2))})

    assert_same(dict(load(path)), truth(path))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_come_back(save, truth, load, assert_same):
    path = save({"nested": torch.nested.nested_tensor([torch.ones(2, 3), torch.zeros(4, 3)])})

    assert_same(dict(load(path)), truth(path))


def test_meta_tensors_come_back_without_values(save, truth, load, assert_same):
    path = save({"weight": torch.empty(2, 3, device="meta"), "bias": torch.ones(1)})

    assert_same(dict(load(path)), truth(path))


@QUANTISED
def test_quantised_tensors_and_entries_come_back(save, truth, load, assert_same):
    values = torch.arange(6.0).reshape(2, 3)
    scales, zeros = torch.tensor([0.5, 0.25], dtype=torch.float64), torch.tensor([1, 0])
    state_dict = OrderedDict(
        per_tensor=torch.quantize_per_tensor(values, 0.5, 3, torch.quint8),
        per_channel=torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8),
        scheme=torch.qint8,
    )
    path = save(state_dict)

    assert_same(load(path), truth(path))


@QUANTISED
def test_the_state_dict_of_a_quantised_layer_loads_into_one(save, truth, load, assert_same):
    path = save(torch.ao.nn.quantized.Linear(3, 2).state_dict())

    found = load(path)

    assert_same(found, truth(path))
    torch.ao.nn.quantized.Linear(3, 2).load_state_dict(found)


def test_extra_state_comes_back_with_the_tensors_inside(save, truth, load, assert_same):
    path = save(WithExtraState(2, 2).state_dict())
    target = WithExtraState(2, 2)

    found = load(path)
    target.load_state_dict(found)

    assert_same(found, truth(path))
    assert target.restored["steps"] == 7


def test_an_entry_that_is_code_is_named_and_can_be_left_out(save, load):
    path = save({"weight": torch.ones(2), "helper": Foreign()})

    with pytest.raises(UnsupportedValueError, match=r"helper.*Foreign.*exclude='helper'") as caught:
        load(path)

    assert caught.value.extra["globals"] == [f"{__name__}.Foreign"]
    assert list(load(path, exclude="helper")) == ["weight"]


@pytest.mark.parametrize("legacy", [False, True])
def test_training_in_place_never_changes_the_file(save, load, sha256, legacy):
    path = save(Net().state_dict(), _use_new_zipfile_serialization=not legacy)
    path.chmod(0o444)
    before = sha256(path)
    net = Net()
    net.load_state_dict(load(path), assign=True)

    net.head(net.conv(torch.ones(1, 3, 3, 3)).flatten(1)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.5).step()
    for tensor in load(path).values():
        tensor.fill_(1)

    assert sha256(path) == before


def test_aligned_values_are_mapped_and_not_copied(save, load):
    path = save({"weight": torch.ones(1024)})
    found = load(path)["weight"]

    assert str(path) in Path("/proc/self/maps").read_text()
    assert found.untyped_storage().nbytes() == 4096


def test_a_safetensors_file_comes_back_as_its_own_library_loads_it(tmp_path, load, assert_same):
    path = tmp_path / "model.safetensors"
    state_dict = {"b.weight": torch.randn(3, 2), "a.steps": torch.tensor(7), "half": torch.ones(3).bfloat16()}
    safetensors.torch.save_file({**state_dict, "empty": torch.empty(0, 3)}, path)

    found = load(path)

    assert_same(dict(sorted(found.items())), dict(sorted(safetensors.torch.load_file(path).items())))


def test_misaligned_safetensors_are_copied_and_right(tmp_path, load, sha256):
    path = tmp_path / "odd.safetensors"
    values = torch.arange(4, dtype=torch.float64)
    header = b'{"odd":{"dtype":"F64","shape":[4],"data_offsets":[0,32]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(values.untyped_storage()))
    before = sha256(path)

    found = load(path)["odd"]

    assert (8 + len(header)) % 8
    assert found.data_ptr() % 8 == 0
    assert torch.equal(found, values)
    found.zero_()
    assert sha256(path) == before


def test_shards_are_one_state_dict(tmp_path, load, assert_same):
    first, second = tmp_path / "m-00001-of-00002.safetensors", tmp_path / "m-00002-of-00002.bin"
    safetensors.torch.save_file({"a": torch.ones(2)}, first)
    torch.save(OrderedDict(b=torch.zeros(3)), second)

    assert_same(load(first, second), OrderedDict(a=torch.ones(2), b=torch.zeros(3)))


def test_two_shards_with_one_name_are_refused(tmp_path, load):
    for name in ("one.safetensors", "two.safetensors"):
        safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / name)

    with pytest.raises(MalformedArtifactError, match="same name"):
        load(tmp_path / "one.safetensors", tmp_path / "two.safetensors")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_module_gives_its_state_dict_without_its_class(save, load, assert_same, legacy):
    net = Net()
    path = save(net, _use_new_zipfile_serialization=not legacy)

    found = load(path)

    assert_same(found, net.state_dict())


def test_a_module_inside_a_checkpoint_is_a_part_of_it(save, load):
    net = Net()
    path = save({"epoch": 3, "model": net})

    found = load(path)

    assert list(found) == list(net.state_dict())


@pytest.fixture
def parts(save):
    def call(*names):
        optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters())
        made = {name: OrderedDict(weight=torch.full((2,), float(i))) for i, name in enumerate(names)}
        return save({"epoch": 1, **made, "optimizer": optimizer.state_dict()})

    return call


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("weights",), 0),
        (("state_dict_ema", "state_dict"), 1),
        (("net", "module", "model", "state_dict", "model_state_dict"), 4),
        (("ema", "model"), 1),
    ],
)
def test_the_default_part_is_the_only_one_or_the_first_of_the_list(parts, load, names, chosen):
    assert load(parts(*names))["weight"].tolist() == [chosen, chosen]


def test_two_parts_of_other_names_are_ambiguous(parts, load):
    with pytest.raises(AmbiguousWeightsError) as caught:
        load(parts("netG", "netD"))

    assert caught.value.extra["candidates"] == ["netG", "netD"]


def test_a_lone_moving_average_is_never_taken_silently(parts, load):
    path = parts("state_dict_ema")

    with pytest.warns(EmaPartWarning, match="state_dict_ema"):
        load(path)
    assert list(load(path, part="state_dict_ema")) == ["weight"]


def test_a_part_is_found_by_name_and_by_path(parts, save, load):
    deep = save({"trainer": {"netG": OrderedDict(w=torch.ones(1))}, "epoch": 1}, name="deep.pt")

    assert load(parts("netG", "netD"), part="netD")["weight"].tolist() == [1, 1]
    assert list(load(deep, part="trainer.netG")) == ["w"]


def test_an_unknown_part_names_those_that_there_are(parts, load):
    with pytest.raises(NoWeightsError, match="netG, netD"):
        load(parts("netG", "netD"), part="netE")


def test_a_checkpoint_without_tensors_holds_no_weights(save, load):
    with pytest.raises(NoWeightsError):
        load(save({"epoch": 1}))


def test_include_and_exclude_choose_by_name(save, load):
    path = save(Net().state_dict())

    assert list(load(path, include="norm.*", exclude=["norm.running_*", "*.num_batches_tracked"])) == [
        "norm.weight",
        "norm.bias",
    ]


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_an_error(save, load, option):
    with pytest.raises(InvalidRequestError, match=r"fc\.\*"):
        load(save(Net().state_dict()), **{option: "fc.*"})


@pytest.mark.parametrize("wanted", ["bfloat16", torch.bfloat16, "torch.float64"])
def test_dtype_converts_floating_tensors_only_and_keeps_ties_and_strides(save, load, wanted):
    base = torch.arange(6.0).reshape(2, 3)
    path = save({"base": base, "turned": base.t(), "steps": torch.tensor(3), "phase": torch.ones(1) * 1j})

    found = load(path, dtype=wanted)

    assert {found["base"].dtype, found["turned"].dtype} <= {torch.bfloat16, torch.float64}
    assert found["base"].dtype != torch.float32
    assert (found["steps"].dtype, found["phase"].dtype) == (torch.int64, torch.complex64)
    assert found["turned"].stride() == (1, 3)
    found["base"].zero_()
    assert not found["turned"].any()


@QUANTISED
def test_dtype_leaves_quantised_tensors_and_entries_alone(save, load):
    quantised = torch.quantize_per_channel(
        torch.ones(1, 2), torch.tensor([0.5], dtype=torch.float64), torch.tensor([0]), 0, torch.qint8
    )
    path = save({"weight": quantised, "entry": (torch.ones(1),), "plain": torch.ones(1)})

    found = load(path, dtype=torch.float16)

    assert found["weight"].q_per_channel_scales().dtype == torch.float64
    assert found["entry"][0].dtype == torch.float32
    assert found["plain"].dtype == torch.float16


def test_the_meta_device_gives_shapes_without_values(save, load):
    found = load(save(Net().state_dict()), device="meta")

    assert all(each.is_meta for each in found.values())
    assert found["conv.weight"].shape == (4, 3, 3, 3)


def test_what_was_saved_on_a_gpu_opens_on_the_cpu(save, load, assert_same):
    path = save({"weight": torch.arange(3.0)}, _use_new_zipfile_serialization=False)
    stored = path.read_bytes()
    path.write_bytes(stored.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"))

    assert path.read_bytes() != stored
    assert_same(dict(load(path)), {"weight": torch.arange(3.0)})


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_named(save, load):
    with pytest.raises(InvalidRequestError, match="cuda"):
        load(save({"weight": torch.ones(1)}), device="cuda")


def test_only_knows_weights(save, load):
    with pytest.raises(InvalidRequestError, match="'weights'"):
        load(save({"weight": torch.ones(1)}), only="optimizer")


class Remove:
    def __reduce__(self):
        return os.remove, ("/nonexistent",)


def test_a_harmful_file_is_refused(save, load):
    path = save({"weight": torch.ones(1), "x": Remove()})

    with pytest.raises(UnsafeArtifactError, match="harm") as caught:
        load(path)

    assert "posix.remove" in caught.value.extra["globals"]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_attributes_that_are_no_dict_are_refused(save, load):
    class Odd:
        def __reduce__(self):
            return OrderedDict, (), [1], None, iter({"w": torch.ones(1)}.items())

    with pytest.raises(MalformedArtifactError, match="without names"):
        load(save(Odd()))


def test_a_wrapped_module_keeps_the_names_it_was_saved_under(save, load, assert_same):
    wrapped = nn.DataParallel(Net())

    assert_same(load(save(wrapped)), wrapped.state_dict())
