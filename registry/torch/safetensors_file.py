"""Writing tensors into a safetensors file one by one, whatever their number and size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from registry.errors import UnsupportedValueError
from registry.formats.safetensors import WritePlan, plan

_PIECE_BYTES = 64 << 20
"""How much is copied from a device at a time."""


def plan_file(tensors: Mapping[Any, Any], metadata: Mapping[str, str]) -> WritePlan | None:
    """Return how a safetensors file of these values looks, None when it would not give back exactly them.

    The format knows no strides, gradients, classes or attributes, and no sparse, nested or quantised tensors.
    """
    if not all(isinstance(name, str) and _is_plain(value) for name, value in tensors.items()):
        return None
    described = [
        (name, str(each.dtype).removeprefix("torch."), tuple(each.shape), each.numel() * each.itemsize)
        for name, each in tensors.items()
    ]
    try:
        return plan(described, metadata)
    except UnsupportedValueError:
        # A dtype or name that the format does not have, or more names than its header holds.
        return None


def _is_plain(value: object) -> bool:
    if type(value) is not torch.Tensor or vars(value):
        return False
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.requires_grad:
        return False
    return value.is_contiguous() and not value.is_conj() and not value.is_neg()


def write(file: Path, planned: WritePlan, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors, which may lie on any device, as planned."""
    with file.open("wb") as target:
        target.write(planned.header)
        for name in planned.offsets:
            _write_values(target, tensors[name])


def _write_values(target: BinaryIO, tensor: torch.Tensor) -> None:
    # Not `reshape`: a single element may keep another stride than 1, of which no bytes can be viewed.
    flat = tensor.detach().contiguous().as_strided((tensor.numel(),), (1,))
    step = max(1, _PIECE_BYTES // tensor.itemsize)
    for start in range(0, flat.numel(), step):
        piece = flat[start : start + step].cpu().view(torch.uint8)
        target.write(cast("Any", piece).numpy().data)
