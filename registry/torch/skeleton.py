"""Building a module without its weights: what a state_dict fills is on the meta device, everything else has values.

`torch.device("meta")` would put all tensors there: those that builders compute with as they build (torchvision's
RegNet), and the tables that no state_dict holds (relative positions, rotary frequencies), which nothing brings back.
"""

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_META = torch.device("meta")
_WEIGHT_ELEMENTS = 1 << 18
"""So large is memory for weights; smaller may be for a table that is filled next, and costs little."""
_SETTERS = frozenset(
    getattr(torch.Tensor, name) for name in ("add_", "copy_", "div_", "fill_", "mul_", "normal_", "uniform_", "zero_")
)
_INITIALISERS = nn.init.__name__
"""The module whose functions give parameters their first values, which takes most of a builder's time."""


class _EmptyWeights(TorchFunctionMode):
    """Large memory that is asked for without values comes from the meta device, and gets none later."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given = dict(kwargs or {})
        if func in _SETTERS or getattr(func, "__module__", "") == _INITIALISERS:
            tensor = args[0] if args else given["tensor"]
            if tensor.is_meta:
                return tensor
        if func is torch.empty and given.get("device") is None:
            empty = torch.empty(*args, **{**given, "device": _META})
            return empty if empty.numel() >= _WEIGHT_ELEMENTS else func(*args, **given)
        return func(*args, **given)


def build_skeleton(make: Callable[[], nn.Module]) -> nn.Module:
    """Return what `make` builds, with parameters and persistent buffers on the meta device.

    Random numbers, and the warnings of the library, are left alone.
    """
    with quiet(), _EmptyWeights():
        module = make()
    _empty_state(module)
    return module


@contextmanager
def quiet() -> Generator[None]:
    """Keep a builder from changing the random numbers that follow, and from warning."""
    with cast("Any", torch.random).fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _empty_state(module: nn.Module) -> None:
    """Move what a state_dict fills to the meta device; what was tied stays tied."""
    moved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # the first keeps its identity from being given again
    for part in module.modules():
        # torch's own places: `setattr` would run the hooks of parametrised modules.
        places = vars(part)
        kept: set[str] = places["_non_persistent_buffers_set"]
        for holder in (places["_parameters"], places["_buffers"]):
            for name, tensor in list(holder.items()):
                if name not in kept and type(tensor) in {torch.Tensor, nn.Parameter}:
                    _, holder[name] = moved.setdefault(id(tensor), (tensor, _empty_like(tensor)))


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_meta:
        return tensor
    empty = tensor.detach().to(_META)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
