"""Calls of torch's rebuild functions that torch's own code would refuse: what they are given does not fit together."""

import io

import pytest
import torch
from corpus.archives import FOUR_FLOATS, Record, checkpoint_records, zip_bytes
from corpus.assembly import PROTO_2, STOP, called, named, storage, tensor, text

from registry.errors import MalformedArtifactError
from registry.formats.reader import read
from registry.formats.source import BytesSource

# Torch says much about quantised tensors, which are old.
pytestmark = pytest.mark.filterwarnings("ignore")
YES, NO = True, False
HOOKS = called("collections:OrderedDict")
INTS = tensor(storage(kind="torch:IntStorage"))


def zipped(made):
    pickled = PROTO_2 + b"}" + text("w") + made + b"s" + STOP
    storages = [Record(f"m/data/{number}", FOUR_FLOATS, align=64) for number in range(1, 4)]
    return zip_bytes([*checkpoint_records(pickled), *storages])


def trust(made):
    return read(BytesSource(zipped(made))).inspection.trust


def torch_reads(made):
    torch.load(io.BytesIO(zipped(made)), weights_only=True)


@pytest.mark.parametrize(
    "made",
    [
        called("torch.nn.parameter:Parameter", INTS, YES),
        called("torch.nn.parameter:Parameter", INTS),
        called("torch._utils:_rebuild_parameter", INTS, YES, HOOKS),
        called("torch._utils:_rebuild_meta_tensor_no_storage", named("torch:int32"), (2,), (1,), YES),
        called("torch._utils:_rebuild_tensor_v2", storage(kind="torch:IntStorage"), 0, (4,), (1,), YES, HOOKS),
    ],
)
def test_integers_that_require_a_gradient_are_refused_as_torch_refuses_them(made):
    with pytest.raises(RuntimeError, match=r"(?i)floating point and complex"):
        torch_reads(made)
    with pytest.raises(MalformedArtifactError, match="requires a gradient"):
        trust(made)


@pytest.mark.parametrize("size", [(1 << 64, 0), (1 << 40, 1 << 40, 0), (1 << 32, 1 << 32, 0, 5)])
def test_sizes_beyond_64_bits_are_refused_also_where_there_is_no_element(size):
    made = tensor(storage(), size, (1,) * len(size))
    with pytest.raises((RuntimeError, TypeError)):
        torch_reads(made)
    with pytest.raises(MalformedArtifactError, match=r"too many elements|64 bits"):
        trust(made)


@pytest.mark.parametrize(("size", "stride", "offset"), [((1,), 1 << 63, 0), ((0,), 1 << 64, 0), ((0,), 1, 1 << 63)])
def test_strides_and_offsets_beyond_64_bits_are_refused_also_where_no_step_is_taken(size, stride, offset):
    made = called("torch._utils:_rebuild_tensor_v2", storage(), offset, size, (stride,), NO, HOOKS)
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        torch_reads(made)
    with pytest.raises(MalformedArtifactError, match="64 bits"):
        trust(made)


@pytest.mark.parametrize("conjugated", [True, False])
def test_real_numbers_that_are_said_to_be_conjugated_or_not_are_refused(conjugated):
    made = called("torch._utils:_rebuild_tensor_v2", storage(), 0, (4,), (1,), NO, HOOKS, {"conj": conjugated})
    with pytest.raises(RuntimeError, match="isComplexType"):
        torch_reads(made)
    with pytest.raises(MalformedArtifactError, match="conjugated"):
        trust(made)


def per_channel(scales, zero_points, axis=0):
    stored = storage("1", "torch:QInt8Storage", 16)
    scheme = (named("torch:per_channel_affine"), scales, zero_points, axis)
    return called("torch._utils:_rebuild_qtensor", stored, 0, (2, 8), (8, 1), scheme, NO, HOOKS)


def numbers(kind, shape, stride, key="2", numel=2):
    return tensor(storage(key, f"torch:{kind}Storage", numel), shape, stride)


POINTS = numbers("Long", (2,), (1,), "3")


def test_a_tensor_quantised_by_channel_is_taken():
    torch_reads(per_channel(numbers("Double", (2,), (1,)), POINTS))
    assert trust(per_channel(numbers("Double", (2,), (1,)), POINTS)) == "tensors"


@pytest.mark.parametrize(
    ("scales", "zero_points"),
    [
        (numbers("Long", (2,), (1,)), POINTS),
        (numbers("Double", (1,), (1,)), POINTS),
        (numbers("Double", (2,), (1,)), numbers("Long", (1,), (1,), "3")),
        (numbers("Double", (2, 1), (1, 1)), POINTS),
        (numbers("Double", (2,), (1,)), numbers("Long", (1, 2), (1, 1), "3")),
    ],
)
def test_scales_and_zero_points_that_do_not_fit_their_axis_are_refused_as_torch_refuses_them(scales, zero_points):
    with pytest.raises((RuntimeError, ValueError)):
        torch_reads(per_channel(scales, zero_points))
    with pytest.raises(MalformedArtifactError, match="scales"):
        trust(per_channel(scales, zero_points))
