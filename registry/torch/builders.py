"""How a module of timm, torchvision or transformers can be made again, found out and proved without its weights.

A builder names a callable of a library and JSON arguments. Calling it on the meta device must give a module
with the same names and shapes, else there is no builder. For transformers it is the class, and `config`
is what `config_class.from_dict` of that class takes.
"""

import importlib
import inspect
import json
import warnings
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

from registry.errors import UnsupportedValueError
from registry.module_info import Builder

_RGB = 3
"""The number of input channels that architectures have when nobody says otherwise."""


def infer_builder(module: nn.Module) -> Builder | None:
    """Return the builder that makes a module of the same names and shapes, None when none is known."""
    wanted = _signature(module)
    for builder in _candidates(module):
        made = _build_without_weights(builder)
        if made is not None and type(made) is type(module) and _signature(made) == wanted:
            return builder
    return None


def _build_without_weights(builder: Builder) -> nn.Module | None:
    # A push in the middle of training must not change the random numbers that follow.
    with cast("Any", torch.random).fork_rng(devices=[]), warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        try:
            return build(builder)
        except Exception:  # noqa: BLE001 - a foreign library may raise anything over a guess
            return None


def build(builder: Builder) -> nn.Module:
    """Import and call what a builder names: it runs the library's code, so only of a builder that is trusted.

    Raises:
        UnsupportedValueError: what it names cannot be imported, or makes no module.
    """
    module_name, _, name = builder.callable.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UnsupportedValueError(
            f"The builder {builder.callable!r} cannot be imported: {error}. Install the library that it belongs to."
        ) from error
    arguments: dict[str, Any] = dict(builder.arguments)
    if module_name == "transformers":
        arguments["config"] = found.config_class.from_dict(arguments["config"])
    made = found(**arguments)
    if not isinstance(made, nn.Module):
        raise UnsupportedValueError(f"The builder {builder.callable!r} made a {type(made).__name__} and no module.")
    return made


def _candidates(module: nn.Module) -> Iterator[Builder]:
    library = type(module).__module__.partition(".")[0]
    if library == "timm":
        yield from _timm(module)
    elif library == "torchvision":
        yield from _torchvision(module)
    elif library == "transformers":
        yield from _transformers(module)


def _timm(module: nn.Module) -> Iterator[Builder]:
    described = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    architecture: object = (
        cast("dict[str, object]", described).get("architecture") if isinstance(described, dict) else None
    )
    if not isinstance(architecture, str):
        return
    arguments: dict[str, Any] = {"model_name": architecture}
    classes = getattr(module, "num_classes", None)
    if isinstance(classes, int):
        arguments["num_classes"] = classes
    channels = _input_channels(module)
    if channels not in {None, _RGB}:
        arguments["in_chans"] = channels
    yield Builder(callable="timm:create_model", arguments=arguments)
    size: Any = getattr(getattr(module, "patch_embed", None), "img_size", None)
    if isinstance(size, tuple):
        sides: list[Any] = [int(each) for each in cast("tuple[int, ...]", size)]
        yield Builder(callable="timm:create_model", arguments={**arguments, "img_size": sides})


def _input_channels(module: nn.Module) -> int | None:
    first = next((each for each in module.modules() if isinstance(each, nn.Conv2d)), None)
    return first.in_channels if first is not None else None


def _torchvision(module: nn.Module) -> Iterator[Builder]:
    models = importlib.import_module("torchvision.models")
    home = type(module).__module__
    public = home.rpartition(".")[0]
    near = [each for each in map(models.get_model_builder, models.list_models()) if each.__module__ == home]
    for arguments in _class_counts(module):
        for each in near:
            given: dict[str, Any] = dict(arguments)
            if "weights_backbone" in inspect.signature(each).parameters:
                # Left out, it means: download the weights of the backbone.
                given["weights_backbone"] = None
            yield Builder(callable=f"{public}:{each.__name__}", arguments=given)


def _class_counts(module: nn.Module) -> list[dict[str, int]]:
    """Return guesses at `num_classes`: what the last layers put out, then the library's default."""
    linear = [each.out_features for each in module.modules() if isinstance(each, nn.Linear)]
    convolution = [each.out_channels for each in module.modules() if isinstance(each, nn.Conv2d)]
    counts = [*linear[-1:], *convolution[-1:]]
    return [*({"num_classes": count} for count in counts), {}]


def _transformers(module: nn.Module) -> Iterator[Builder]:
    name = type(module).__name__
    public = getattr(importlib.import_module("transformers"), name, None)
    config: Any = getattr(module, "config", None)
    if public is not type(module) or config is None:
        return
    try:
        described = json.loads(json.dumps(config.to_diff_dict()))
    except (TypeError, ValueError):
        return
    yield Builder(callable=f"transformers:{name}", arguments={"config": described})


def _signature(module: nn.Module) -> dict[str, tuple[int, ...]]:
    state_dict = module.state_dict()
    return {name: tuple(each.shape) for name, each in state_dict.items() if isinstance(each, torch.Tensor)}
