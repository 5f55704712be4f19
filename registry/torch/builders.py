"""How a module of a known library can be made again, found out and proved without its weights.

A builder names a callable of a library and JSON arguments. Calling it must give a module of the same classes with the
same names and shapes that computes the same, else there is no builder. For transformers it is the class, and
`config` is what `config_class.from_dict` of that class takes.
"""

import importlib
from typing import Any, cast

import torch
from torch import nn

from registry.errors import UnsupportedValueError
from registry.module_info import Builder
from registry.torch.guesses import iter_guesses
from registry.torch.skeleton import build_skeleton, quiet

_TRAINING_ONLY = frozenset({"training", "num_classes", "inplace", "momentum", "p", "fused_attn"})
"""Attributes that do not change what a trained module computes: how it trains, where it runs, what it was called."""
_TRAINING_WORDS = ("drop", "checkpoint")
_PLAIN = (bool, int, float, str, tuple, type(None))


def infer_builder(module: nn.Module) -> Builder | None:
    """Return the builder that makes the module again without its weights, None when none is known."""
    wanted = _signature(module)
    other_names: list[Builder] = []
    for builder in iter_guesses(module):
        trunk = _without_class_count(builder)
        made = None if trunk in other_names else find_built(builder)
        if made is None:
            continue
        found = _signature(made)
        if found == wanted and _computes_alike(module, made):
            return builder
        if found.keys() != wanted.keys():
            other_names.append(trunk)
    return None


def _without_class_count(builder: Builder) -> Builder:
    """Return what makes the same names, whatever the number of classes."""
    arguments = {name: value for name, value in builder.arguments.items() if name != "num_classes"}
    return Builder(callable=builder.callable, arguments=arguments)


def find_built(builder: Builder) -> nn.Module | None:
    """Return what a builder of a known library makes, without weights; None when it does not take its arguments."""
    for make in (_skeleton, _on_meta):
        try:
            return make(builder)
        except Exception:  # noqa: BLE001, S112 - a foreign library may raise anything over a guess
            continue
    return None


def _skeleton(builder: Builder) -> nn.Module:
    return build_skeleton(lambda: build(builder))


def _on_meta(builder: Builder) -> nn.Module:
    with quiet(), torch.device("meta"):
        return build(builder)


def find_callable(builder: Builder) -> Any:
    """Import and return what a builder names: this runs the library's code, so only of a builder that is trusted.

    Raises:
        UnsupportedValueError: it cannot be imported.
    """
    module_name, _, name = builder.callable.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise UnsupportedValueError(
            f"The builder {builder.callable!r} cannot be imported: {error}. Install the library that it belongs to."
        ) from error
    return found


def build(builder: Builder) -> nn.Module:
    """Import and call what a builder names: it runs the library's code, so only of a builder that is trusted.

    Raises:
        UnsupportedValueError: what it names cannot be imported, or makes no module.
    """
    return call(builder, find_callable(builder))


def call(builder: Builder, found: Any) -> nn.Module:
    """Call what a builder names, with its arguments.

    Raises:
        UnsupportedValueError: it makes no module.
    """
    arguments: dict[str, Any] = dict(builder.arguments)
    if isinstance(found, type) and hasattr(found, "config_class") and isinstance(arguments.get("config"), dict):
        arguments["config"] = cast("Any", found).config_class.from_dict(arguments["config"])
    made = found(**arguments)
    if not isinstance(made, nn.Module):
        raise UnsupportedValueError(f"The builder {builder.callable!r} made a {type(made).__name__} and no module.")
    return made


def _signature(module: nn.Module) -> dict[str, tuple[int, ...]]:
    state_dict = module.state_dict()
    return {name: tuple(each.shape) for name, each in state_dict.items() if isinstance(each, torch.Tensor)}


def _computes_alike(module: nn.Module, made: nn.Module) -> bool:
    """Return whether two modules are of the same classes with the same settings.

    Names and shapes do not tell a dilation from another, nor an Inception that normalises its input from one that
    does not.
    """
    parts, others = (dict(cast("Any", each.named_modules())) for each in (module, made))
    if parts.keys() != others.keys():
        return False
    return all(
        type(part) is type(others[name]) and _agree(_settings(part), _settings(others[name]))
        for name, part in parts.items()
    )


def _agree(settings: dict[str, Any], others: dict[str, Any]) -> bool:
    return all(name in settings and settings[name] == value for name, value in others.items())


def _settings(part: nn.Module) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(part).items()
        if isinstance(value, _PLAIN)
        and not name.startswith("_")
        and name not in _TRAINING_ONLY
        and not any(word in name for word in _TRAINING_WORDS)
    }
