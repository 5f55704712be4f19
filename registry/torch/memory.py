"""Where tensors lie in memory: which storage, which of its bytes, and whether their own elements overlap."""

from enum import IntEnum
from typing import Any, cast

import torch


class Overlap(IntEnum):
    """Whether elements of a tensor share memory, as torch's own test before `copy_` answers."""

    NONE = 0
    SURE = 1
    """As of `expand`; `copy_` raises."""
    UNKNOWN = 2
    """As of overlapping windows; `copy_` writes, and the last one wins."""


def internal_overlap(tensor: torch.Tensor) -> Overlap:
    """Return whether elements of a tensor share memory with each other."""
    return Overlap(cast("Any", torch)._debug_has_internal_overlap(tensor))  # noqa: SLF001 - there is no public test for it


def storage_of(tensor: torch.Tensor) -> int:
    """Return what is equal for tensors of one storage, also on the meta device."""
    storage = cast("Any", tensor.untyped_storage())
    return int(storage._cdata)  # noqa: SLF001 - torch compares storages by it, and has no public name for it


def extent_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the half-open range of bytes of its storage in which a strided tensor of one element or more lies."""
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset()) * tensor.element_size()
    return start, start + (int(reach) + 1) * tensor.element_size()
