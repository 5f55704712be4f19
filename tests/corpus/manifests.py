"""What torch says that a value holds, in the words of a tensor manifest; written apart from the reader."""

import argparse
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from registry.formats.inspection import Inspection, TensorRecord

_PLAIN_STORAGE_ONLY = frozenset({"strided"})


class Facts(NamedTuple):
    """A tensor as torch has it."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None
    offset: int
    requires_grad: bool
    layout: str


def iter_tensors(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor with its container keys joined by dots."""
    waiting: list[tuple[Any, tuple[Any, ...], frozenset[int]]] = [(value, path, frozenset())]
    while waiting:
        value, path, above = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield ".".join(map(str, path)), value
            continue
        members = list(_members(value))
        if members and id(value) not in above:
            waiting += [(each, (*path, key), above | {id(value)}) for key, each in reversed(members)]


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from enumerate(value)
    elif isinstance(value, argparse.Namespace | types.SimpleNamespace):
        yield from vars(value).items()


def facts_of(tensor: torch.Tensor) -> Facts:
    """Return what torch says of a tensor."""
    layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    dense = layout in _PLAIN_STORAGE_ONLY
    return Facts(
        str(tensor.dtype).removeprefix("torch."),
        (tensor.size(0),) if tensor.is_nested else tuple(tensor.shape),
        tuple(tensor.stride()) if dense else None,
        tensor.storage_offset() if dense else 0,
        tensor.requires_grad if dense else False,
        layout,
    )


def facts_in(record: TensorRecord) -> Facts:
    """Return what the reader says of one."""
    dense = record.layout in _PLAIN_STORAGE_ONLY
    stride = record.stride if dense else None
    offset, grad = (record.storage_offset, record.requires_grad) if dense else (0, False)
    return Facts(record.dtype, record.shape, stride, offset, grad, record.layout)


def assert_manifest(inspection: Inspection, data: bytes, value: Any) -> None:
    """Fail unless the reader's list of tensors is torch's: names, dtypes, shapes, strides, and the very bytes."""
    expected, records = list(iter_tensors(value)), inspection.tensors
    if inspection.format == "safetensors":  # which has an order of its own
        expected, records = sorted(expected, key=lambda pair: pair[0]), sorted(records, key=lambda each: each.name)
    assert [each.name for each in records] == [name for name, _ in expected]
    for record, (name, tensor) in zip(records, expected, strict=True):
        found, wanted = facts_in(record), facts_of(tensor)
        if inspection.format == "safetensors":  # which keeps rows in order and no gradients
            wanted = wanted._replace(stride=tuple(tensor.contiguous().stride()), offset=0, requires_grad=False)
        assert found == wanted, name
        assert_bytes(record, inspection, data, tensor)


def assert_bytes(record: TensorRecord, inspection: Inspection, data: bytes, tensor: torch.Tensor) -> None:
    """Fail unless the storage that the reader names holds what the tensor's does."""
    if record.storage_key is None or record.layout != "strided" or tensor.is_meta:
        return
    storage = next(each for each in inspection.storages if each.key == record.storage_key)
    if storage.file_offset is None:
        return
    raw = data[storage.file_offset : storage.file_offset + storage.nbytes]
    if inspection.format == "safetensors":
        held = tensor.detach().contiguous().untyped_storage()
    else:
        held = tensor.detach().untyped_storage()
    bytes_held = bytes(torch.empty(0, dtype=torch.uint8).set_(held).numpy())[: len(raw) or None]
    if storage.big_endian:
        width = tensor.dtype.itemsize // (2 if tensor.dtype.is_complex else 1)
        raw = b"".join(raw[at : at + width][::-1] for at in range(0, len(raw), width))
    assert raw == (bytes_held if storage.nbytes else b""), record.name
