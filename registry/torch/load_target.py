"""The module that shall be filled: which part of it, and whether every tensor that is to be written can be."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from registry.compat.leftovers import COUNTER
from registry.compat.load_plan import LoadPlan
from registry.errors import InvalidRequestError, StateDictMismatchError, UnsupportedValueError
from registry.torch.load_hooks import find_load_hooks
from registry.torch.memory import Overlap, internal_overlap
from registry.torch.storages import find_device, find_dtype
from registry.torch.uninitialised import iter_tensors

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Placing:
    """How values get into a module.

    Attributes:
        assign: put the loaded tensors in the place of the module's own; else copy into those.
        device: of assigned tensors; None is the module's, or the CPU for a module on the meta device.
        dtype: of assigned floating-point tensors; None is the module's.
        cast: whether every conversion was allowed (`any`).
    """

    assign: bool = False
    device: torch.device | None = None
    dtype: torch.dtype | None = None
    cast: str = "safe"

    @classmethod
    def of(cls, *, assign: bool, device: Any, dtype: Any, cast: str) -> "Placing":
        """Return it of what a caller gave.

        Raises:
            InvalidRequestError, UnsupportedValueError: there is no such device or dtype here.
        """
        if isinstance(dtype, str):
            dtype = find_dtype(dtype.removeprefix("torch."))
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise InvalidRequestError(f"dtype={dtype!r} is no floating-point dtype; only such tensors are converted.")
        found = None if device is None else find_device(device)
        if found is not None and found.type == "meta":
            raise InvalidRequestError("device='meta' holds no values; nothing can be loaded there.")
        return cls(assign, found, dtype, cast)

    def dtype_for(self, target: torch.Tensor) -> torch.dtype:
        """Return the dtype that values for a tensor of the module get."""
        if self.assign and self.dtype is not None and target.is_floating_point():
            return self.dtype
        return target.dtype

    def device_for(self, target: torch.Tensor) -> torch.device:
        """Return the device that values for a tensor of the module get."""
        if self.assign and self.device is not None:
            return self.device
        return torch.device("cpu") if target.is_meta else target.device


def find_submodule(module: object, into: str) -> nn.Module:
    """Return the submodule of that dotted name; the module itself for an empty one.

    Raises:
        InvalidRequestError: this is no module, or it has no such part; the detail names near ones.
    """
    if not isinstance(module, nn.Module):
        raise InvalidRequestError(
            f"Weights are loaded into an nn.Module, not a {type(module).__name__}. For a state_dict there is `pull`."
        )
    parts = dict(cast("Iterable[tuple[str, nn.Module]]", module.named_modules(remove_duplicate=False)))
    if into in parts:
        return parts[into]
    near = difflib.get_close_matches(into, parts, n=_SHOWN) or [name for name, _ in module.named_children()]
    raise InvalidRequestError(
        f"{type(module).__name__} has no submodule {into!r}. There is: {', '.join(near[:_SHOWN]) or 'none'}.",
        candidates=near,
    )


def is_on_meta(module: nn.Module) -> bool:
    """Return whether any parameter or buffer has no values."""
    return any(tensor.is_meta for _, tensor in iter_tensors(module))


def check_target(module: nn.Module, plan: LoadPlan, placing: Placing) -> None:
    """Refuse a module that could not be filled as planned, before anything is written.

    Raises:
        InvalidRequestError: an argument does not suit the module.
        StateDictMismatchError: something on the meta device would stay without values.
        UnsupportedValueError: a tensor cannot be written.
    """
    tensors = dict(iter_tensors(module))
    if placing.assign:
        _check_meta(module, tensors, plan)
        return
    _check_placing(tensors, placing)
    hollow = [name for name, tensor in tensors.items() if tensor.is_meta]
    if hollow:
        raise InvalidRequestError(
            f"{_some(hollow)} of {type(module).__name__} are on the meta device and have no memory to copy into. Say "
            "`assign=True` to put the loaded tensors in their place."
        )
    for name in plan.loaded:
        if name in tensors:
            _check_writable(name, tensors[name])


def has_own_code(module: nn.Module, names: Collection[str]) -> bool:
    """Return whether code that is not torch's own takes part in a load, and could raise in the middle of it.

    Load hooks, load methods and `set_extra_state` of modules, and tensors of other classes than torch's plain ones.
    """
    if find_load_hooks(module):
        return True
    parts = cast("Iterable[nn.Module]", module.modules())
    if any(type(part).set_extra_state is not nn.Module.set_extra_state for part in parts):
        return True
    written = (tensor for name, tensor in iter_tensors(module) if name in names)
    return any(not _is_plain(tensor) for tensor in written)


def _is_plain(tensor: torch.Tensor) -> bool:
    kind = type(tensor) in {torch.Tensor, nn.Parameter, nn.Buffer} if hasattr(nn, "Buffer") else True
    return kind and tensor.layout == torch.strided and not tensor.is_quantized


def _check_placing(tensors: Mapping[str, torch.Tensor], placing: Placing) -> None:
    for name, tensor in tensors.items():
        other_device = placing.device is not None and tensor.device.type != placing.device.type
        other_dtype = placing.dtype is not None and tensor.is_floating_point() and tensor.dtype != placing.dtype
        if other_device or other_dtype:
            what = f"device={str(placing.device)!r}" if other_device else f"dtype={placing.dtype}"
            raise InvalidRequestError(
                f"{what} is for `assign=True`: values are copied into the module's own tensors, and {name} is "
                f"{tensor.dtype} on {str(tensor.device)!r}. Move the module first (`module.to(…)`), or assign."
            )


def _check_writable(name: str, tensor: torch.Tensor) -> None:
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise UnsupportedValueError(
            f"{name} was made in torch.inference_mode() and cannot be written outside of it. Build the module outside "
            "of it, or say `assign=True`."
        )
    if internal_overlap(tensor) is Overlap.SURE:
        raise UnsupportedValueError(
            f"{name} is expanded: several of its elements are one in memory, and none can be written. Put a `clone()` "
            "there, or say `assign=True`."
        )


def _check_meta(module: nn.Module, tensors: Mapping[str, torch.Tensor], plan: LoadPlan) -> None:
    filled = {id(tensors[name]) for name in plan.loaded if name in tensors}
    report = plan.report
    counters = {*report.counters, *(name for name in plan.missing if name.endswith(COUNTER))}
    hollow = [
        name
        for name, tensor in tensors.items()
        if tensor.is_meta and id(tensor) not in filled and name not in counters and name not in report.hooked
    ]
    for prefix, part in cast("Iterable[tuple[str, nn.Module]]", module.named_modules()):
        loose = (name for name, value in vars(part).items() if isinstance(value, torch.Tensor) and value.is_meta)
        hollow += [f"{prefix}.{name}" if prefix else name for name in loose]
    if hollow:
        raise StateDictMismatchError(
            f"{report.source} was not loaded into {report.target}; nothing was changed.\n"
            f"{_some(hollow)} would stay on the meta device, without values: no tensor of the source is for them. Give "
            "them values first (`module.head = nn.Linear(…)` outside of `torch.device('meta')`), or build the module "
            "on the CPU.",
            missing=hollow,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
