"""The architecture of an `nn.Module` or a state_dict in memory, also on the meta device: no value is read."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from registry.architecture import Architecture
from registry.errors import UnsupportedValueError
from registry.tensor_spec import TensorRole, TensorSpec


def architecture_of(module: nn.Module) -> Architecture:
    """Return what `module.state_dict()` holds: names, shapes, dtypes, roles, ties, entries and `_metadata`.

    Raises:
        UnsupportedValueError: a lazy module has not seen its first input yet, so that it has no shapes.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    roles: dict[str, TensorRole] = dict.fromkeys(buffers, "buffer")
    roles.update(dict.fromkeys(parameters, "parameter"))
    return architecture_of_state_dict(module.state_dict(), roles)


def architecture_of_state_dict(
    state_dict: Mapping[str, Any], roles: Mapping[str, TensorRole] | None = None
) -> Architecture:
    """Return the architecture of a state_dict.

    Args:
        state_dict: tensors by name, and other values, which become entries.
        roles: what the tensors are to their module, where somebody knows.

    Raises:
        UnsupportedValueError: a tensor has no shape yet.
    """
    ties = _find_ties(state_dict)
    known = roles or {}
    tensors: list[TensorSpec] = []
    entries: list[str] = []
    for name, value in state_dict.items():
        if not isinstance(value, torch.Tensor):
            entries.append(name)
        else:
            tensors.append(_spec_of(name, value, known.get(name, "unknown"), ties.get(name)))
    metadata = cast("Mapping[str, Mapping[str, Any]] | None", getattr(state_dict, "_metadata", None))
    return Architecture(tensors, entries=entries, metadata=metadata)


def _spec_of(name: str, tensor: torch.Tensor, role: TensorRole, tie: str | None) -> TensorSpec:
    if is_lazy(tensor):
        raise UnsupportedValueError(
            f"{name!r} belongs to a lazy module and has no shape yet. Run one batch through the module first."
        )
    return TensorSpec(
        name=name,
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        role=role,
        tie=tie,
        layout=str(tensor.layout).removeprefix("torch."),
        quantised=tensor.is_quantized,
    )


def _find_ties(state_dict: Mapping[str, Any]) -> dict[str, str]:
    """Return, for tensors that are one and the same view of one storage, the name of the first of them."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, value in state_dict.items():
        view = _view_of(value)
        if view is not None:
            groups.setdefault(view, []).append(name)
    return {name: names[0] for names in groups.values() if len(names) > 1 for name in names}


def _view_of(value: object) -> tuple[Any, ...] | None:
    if not isinstance(value, torch.Tensor) or is_lazy(value):
        return None
    if value.layout != torch.strided or value.is_nested or not value.numel():
        return None
    # The address of the storage object, not of its bytes: those of meta tensors are all at 0.
    storage = cast("Any", value.untyped_storage())
    identity: int = storage._cdata  # noqa: SLF001 - torch compares storages by it, and has no public name for it
    return (identity, value.storage_offset(), tuple(value.shape), value.stride())
