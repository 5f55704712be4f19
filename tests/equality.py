"""When two state_dicts or checkpoints are the same: values, dtypes, strides, ties, `_metadata`, order of keys."""

from collections.abc import Mapping
from typing import Any

import torch


def assert_same(got: Any, expected: Any, path: str = "") -> None:
    """Fail unless two nested values are equal, tensors bit by bit, and shared in the same way."""
    got_groups: dict[int, list[str]] = {}
    expected_groups: dict[int, list[str]] = {}
    _compare(got, expected, path, got_groups, expected_groups)
    assert sorted(got_groups.values()) == sorted(expected_groups.values()), "other tensors share storages"


def _compare(got: Any, expected: Any, path: str, got_groups: Any, expected_groups: Any) -> None:
    if isinstance(expected, torch.Tensor):
        _compare_tensors(got, expected, path)
        if expected.layout == torch.strided and not expected.is_quantized and expected.numel():
            got_groups.setdefault(got.untyped_storage().data_ptr(), []).append(path)
            expected_groups.setdefault(expected.untyped_storage().data_ptr(), []).append(path)
    elif isinstance(expected, Mapping):
        assert list(got) == list(expected), path
        assert getattr(got, "_metadata", None) == getattr(expected, "_metadata", None), path
        for key in expected:
            _compare(got[key], expected[key], f"{path}.{key}", got_groups, expected_groups)
    elif isinstance(expected, list | tuple):
        assert type(got) is type(expected), path
        assert len(got) == len(expected), path
        for at, (one, other) in enumerate(zip(got, expected, strict=True)):
            _compare(one, other, f"{path}.{at}", got_groups, expected_groups)
    else:
        assert type(got) is type(expected), path
        assert got == expected, path


def _compare_tensors(got: Any, expected: torch.Tensor, path: str) -> None:
    assert isinstance(got, torch.Tensor), path
    assert (got.dtype, got.shape, got.layout) == (expected.dtype, expected.shape, expected.layout), path
    if expected.layout != torch.strided:
        assert torch.equal(got.to_dense(), expected.to_dense()), path
        return
    assert got.stride() == expected.stride(), path
    if expected.is_quantized:
        assert got.qscheme() == expected.qscheme(), path
        assert torch.equal(got.int_repr(), expected.int_repr()), path
        assert torch.equal(got.dequantize(), expected.dequantize()), path
        return
    assert _bits(got) == _bits(expected), path


def _bits(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    plain = plain.as_strided((plain.numel(),), (1,))
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
