"""What a cast does to values, held to torch on every value of the small dtypes and the edges of the large ones."""

import itertools

import pytest
import torch

from registry.compat.casts import classify_cast

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
INTEGERS = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def values_of(dtype):
    """All finite values of up to 16 bits; of larger dtypes the edges and what lies beside powers of two."""
    if dtype == torch.bool:
        return torch.tensor([False, True])
    if dtype.itemsize <= 2:
        bits = torch.arange(2 ** (8 * dtype.itemsize), dtype=torch.int64)
        unsigned = torch.uint8 if dtype.itemsize == 1 else torch.int16
        values = bits.to(unsigned).view(dtype)
        return values[torch.isfinite(values.double())] if dtype.is_floating_point else values
    if not dtype.is_floating_point:
        size = 8 * dtype.itemsize - 1
        edges = [0, *(2**at + off for at in range(size) for off in (-1, 0, 1)), 2**size - 1]
        return torch.tensor([sign * each for each in edges for sign in (1, -1)] + [-(2**size)], dtype=dtype)
    info = torch.finfo(dtype)
    near = [1 + info.eps, 1 / 3, info.max, info.tiny, info.smallest_normal * info.eps]
    return torch.tensor([0.0, 1.0, *near, *(-each for each in near)], dtype=dtype)


def keeps_all(source, target):
    values = values_of(source)
    return torch.equal(values.to(target).double(), values.double()) and torch.equal(
        values.to(target).to(source), values
    )


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(FLOATS, 2)), ids=name_of)
def test_floats_are_lossless_where_torch_keeps_every_value(source, target):
    assert classify_cast(name_of(source), name_of(target)) == ("lossless" if keeps_all(source, target) else "rounding")


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(INTEGERS, 2)), ids=name_of)
def test_integers_are_lossless_where_torch_keeps_every_value_and_else_refused(source, target):
    assert classify_cast(name_of(source), name_of(target)) == ("lossless" if keeps_all(source, target) else "refused")


@pytest.mark.parametrize(("source", "target"), list(itertools.product(INTEGERS, FLOATS)), ids=name_of)
def test_integers_become_floats_losslessly_where_torch_keeps_every_value(source, target):
    assert classify_cast(name_of(source), name_of(target)) == ("lossless" if keeps_all(source, target) else "rounding")


@pytest.mark.parametrize(("source", "target"), list(itertools.product(FLOATS, INTEGERS)), ids=name_of)
def test_floats_never_become_integers_unasked(source, target):
    assert classify_cast(name_of(source), name_of(target)) == "refused"


@pytest.mark.parametrize(
    ("source", "target", "effect"),
    [
        ("float32", "float32", "none"),
        ("complex64", "float32", "refused"),
        ("float32", "complex64", "lossless"),
        ("complex128", "complex64", "rounding"),
        ("complex64", "complex128", "lossless"),
        ("qint8", "float32", "refused"),
        ("float32", "made_up", "refused"),
        ("uint64", "int64", "refused"),
        ("uint32", "int64", "lossless"),
    ],
)
def test_other_kinds_of_numbers(source, target, effect):
    assert classify_cast(source, target) == effect
