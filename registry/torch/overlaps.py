"""Tensors of a module that lie on each other in memory without being one: whether what they get can be true of all."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch

from registry.errors import StateDictMismatchError, UnsupportedValueError
from registry.torch.memory import extent_of, internal_overlap, storage_of


def check_overlaps(tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any], *, assign: bool) -> None:
    """Refuse values that could not all be read back, because one would be written over another.

    Tensors that are one and the same view are ties, and no matter here. Others (a slice, a transpose, windows) are
    written to a copy of their memory, as the load would, and read again.

    Args:
        tensors: the module's own by name.
        values: what each of them gets.
        assign: whether the values take the tensors' place; then nothing of the kind survives.

    Raises:
        StateDictMismatchError: one would be written over another.
        UnsupportedValueError: they would be torn apart by `assign`.
    """
    for group in _groups(tensors, values, windows=not assign):
        if assign:
            raise UnsupportedValueError(
                f"{' and '.join(group)} lie on each other in memory, and `assign=True` would tear them apart. Build "
                "the module on the CPU and load without it."
            )
        lost = _find_lost(group, tensors, values)
        if lost is not None:
            raise StateDictMismatchError(
                f"{' and '.join(group)} lie on each other in memory, and have values that contradict each other: that "
                f"of {lost} would be lost. Nothing was changed."
            )


def _groups(tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any], *, windows: bool) -> list[list[str]]:
    """Return the names, by storage, of tensors whose ranges of memory overlap and that are not all one view.

    With `windows`, also of those whose own elements may overlap.
    """
    by_storage: dict[int, dict[tuple[Any, ...], str]] = {}
    for name, value in values.items():
        tensor = tensors.get(name)
        if tensor is None or not isinstance(value, torch.Tensor) or not tensor.numel():
            continue
        if tensor.layout == torch.strided and not tensor.is_quantized:
            view = (*extent_of(tensor), tensor.dtype, tuple(tensor.shape), tensor.stride())
            by_storage.setdefault(storage_of(tensor), {}).setdefault(view, name)
    groups: list[list[str]] = []
    for views in by_storage.values():
        ordered = sorted(views, key=lambda view: view[:2])
        overlap = any(after[0] < before[1] for before, after in pairwise(ordered))
        if overlap or (windows and any(internal_overlap(tensors[name]) for name in views.values())):
            groups.append(list(views.values()))
    return groups


def _find_lost(group: list[str], tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> str | None:
    scratch = tensors[group[0]].untyped_storage().clone()
    views = {name: _view(tensors[name], scratch) for name in group}
    for name, view in views.items():
        view.copy_(values[name])
    for name, view in views.items():
        wanted = torch.empty_like(view, memory_format=torch.contiguous_format).copy_(values[name])
        if not torch.equal(view.contiguous().reshape(-1).view(torch.uint8), wanted.reshape(-1).view(torch.uint8)):
            return name
    return None


def _view(tensor: torch.Tensor, storage: torch.UntypedStorage) -> torch.Tensor:
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
