"""Modules made to be filled: by a builder or by the caller's own class, without spending time and memory on values."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from pydantic import ValidationError
from torch import Tensor, nn

from registry.errors import InvalidRequestError, WeighbridgeError
from registry.module_info import Builder
from registry.torch.load_target import Placing
from registry.torch.skeleton import build_skeleton, quiet
from registry.torch.targets import build_target

_REGISTERED = frozenset({"_parameters", "_modules"})


def build_module(builder: object, recorded: Builder | None, *, trust_builder: bool = False) -> nn.Module:
    """Return a module to be filled with `assign=True`: what a state_dict fills has no values, all the rest has.

    Where that cannot be (builders that compute with their weights), everything has values.

    Args:
        builder: a builder, its text `module.path:callable`, or the caller's own class or function.
        recorded: what the version says makes its module; where it names that class, it gives the arguments.
        trust_builder: call builders of other libraries than the known ones too.

    Raises:
        TrustCodeRequiredError: it is no builder of a known library, and was not trusted.
        UnsupportedValueError: it cannot be imported, or makes no module.
        InvalidRequestError: it is nothing to be called, or raised.
    """
    if isinstance(builder, str):
        builder = _parse(builder)
    if isinstance(builder, Builder):
        module = build_target(builder, trust_builder=trust_builder)
        return build_target(builder, trust_builder=trust_builder, with_values=True) if _lacks_values(module) else module
    if isinstance(builder, nn.Module) or not callable(builder):
        raise InvalidRequestError(
            f"builder= takes a class or function, a Builder, or 'module.path:callable', not a "
            f"{type(builder).__name__}. For a module that exists there is `load_into(ref, module)`."
        )
    call = cast("Callable[..., Any]", builder)
    arguments: dict[str, Any] = dict(recorded.arguments) if recorded is not None and _names(recorded, call) else {}
    return _make(lambda: call(**arguments), str(getattr(call, "__qualname__", call)))


def settle(module: nn.Module, placing: Placing) -> nn.Module:
    """Move what was not loaded (buffers that no state_dict holds) to where the rest is, as `module.to` does."""
    return module.to(device=placing.device, dtype=placing.dtype)


def _parse(text: str) -> Builder:
    try:
        return Builder(callable=text)
    except ValidationError as error:
        raise InvalidRequestError(
            f"builder={text!r} is not of the form 'module.path:callable', as in 'torchvision.models:resnet50'."
        ) from error


def _names(builder: Builder, call: "Callable[..., Any]") -> bool:
    place = (getattr(call, "__module__", None), getattr(call, "__qualname__", None))
    return tuple(builder.callable.split(":")) == place


def _make(make: "Callable[[], Any]", name: str) -> nn.Module:
    with suppress(Exception):
        # Foreign code may raise anything where weights have no values.
        made = build_skeleton(make)
        if not _lacks_values(made):
            return made
    try:
        with quiet():
            made = make()
    except WeighbridgeError:
        raise
    except Exception as error:
        raise InvalidRequestError(
            f"{name} could not be built: {type(error).__name__}: {error}. Where it needs arguments: "
            "builder=lambda: MyNet(width=8)."
        ) from error
    if not isinstance(made, nn.Module):
        raise InvalidRequestError(f"builder={name} made a {type(made).__name__} and no nn.Module.")
    return made


def _lacks_values(module: nn.Module) -> bool:
    """Return whether tensors are on the meta device that no state_dict will fill."""
    filled = {id(each) for each in module.state_dict(keep_vars=True).values()}
    parts = cast("Iterable[nn.Module]", module.modules())
    found = (
        value
        for part in parts
        for name, each in vars(part).items()
        if name not in _REGISTERED
        for value in _inside(each)
    )
    return any(isinstance(each, Tensor) and each.is_meta and id(each) not in filled for each in found)


def _inside(value: object) -> Iterable[object]:
    """Return a value, or what a container directly holds."""
    if isinstance(value, dict):
        return cast("dict[object, object]", value).values()
    return cast("Iterable[object]", value) if isinstance(value, list | tuple) else (value,)
