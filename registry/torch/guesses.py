"""Which calls of its library may have made a module: guesses from its class and attributes, proved by the caller."""

import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from torch import nn

from registry.module_info import Builder

_RGB = 3
"""The number of input channels that architectures have when nobody says otherwise."""


def iter_guesses(module: nn.Module) -> Iterator[Builder]:
    """Yield builders that may make the module; none for a module of one's own."""
    library = type(module).__module__.partition(".")[0]
    guess = _GUESSES.get(library)
    if guess is not None:
        yield from guess(module)


def _timm(module: nn.Module) -> Iterator[Builder]:
    described = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    architecture: object = (
        cast("dict[str, object]", described).get("architecture") if isinstance(described, dict) else None
    )
    if not isinstance(architecture, str):
        return
    arguments: dict[str, Any] = {"model_name": architecture}
    channels = _input_channels(module)
    if channels not in {None, _RGB}:
        arguments["in_chans"] = channels
    pool = getattr(module, "global_pool", None)
    pooling = getattr(pool, "pool_type", pool)
    size: Any = getattr(getattr(module, "patch_embed", None), "img_size", None)
    for count in _class_counts(module, getattr(module, "num_classes", None)):
        given = {**arguments, **count}
        yield Builder(callable="timm:create_model", arguments=given)
        if isinstance(size, tuple):
            sides: list[Any] = [int(each) for each in cast("tuple[int, ...]", size)]
            yield Builder(callable="timm:create_model", arguments={**given, "img_size": sides})
        if isinstance(pooling, str):
            yield Builder(callable="timm:create_model", arguments={**given, "global_pool": pooling})


def _input_channels(module: nn.Module) -> int | None:
    first = next((each for each in module.modules() if isinstance(each, nn.Conv2d)), None)
    return first.in_channels if first is not None else None


def _torchvision(module: nn.Module) -> Iterator[Builder]:
    models = importlib.import_module("torchvision.models")
    home = type(module).__module__
    public = home.rpartition(".")[0]
    near = [each for each in map(models.get_model_builder, models.list_models()) if each.__module__ == home]
    settings = _given_settings(module)
    for count in _class_counts(module, None):
        for each in near:
            given: dict[str, Any] = {**count, **settings}
            known = inspect.signature(each).parameters
            if "weights_backbone" in known:
                # Left out, it means: download the weights of the backbone.
                given["weights_backbone"] = None
            if "aux_loss" in known and getattr(module, "aux_classifier", None) is not None:
                given["aux_loss"] = True
            yield Builder(callable=f"{public}:{each.__name__}", arguments=given)


def _given_settings(module: nn.Module) -> dict[str, Any]:
    """Return the arguments of the module's class that its attributes show: Inception's `aux_logits`, an image size."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(module)).parameters.items():
        value: object = getattr(module, name, None)
        switched = isinstance(value, bool) and value is not parameter.default
        if switched or (name == "image_size" and isinstance(value, int)):
            found[name] = value
    return found


def _class_counts(module: nn.Module, said: object) -> list[dict[str, int]]:
    """Return guesses at `num_classes`: what the module says, what its last layers put out, the library's default."""
    linear = [each.out_features for each in module.modules() if isinstance(each, nn.Linear)]
    convolution = [each.out_channels for each in module.modules() if isinstance(each, nn.Conv2d)]
    counts = [*([said] if isinstance(said, int) else []), *linear[-1:], *convolution[-1:]]
    return [*({"num_classes": count} for count in dict.fromkeys(counts)), {}]


def _transformers(module: nn.Module) -> Iterator[Builder]:
    name = type(module).__name__
    public = getattr(importlib.import_module("transformers"), name, None)
    config: Any = getattr(module, "config", None)
    if public is not type(module) or config is None:
        return
    described = _as_json(config.to_diff_dict())
    if described is not None:
        yield Builder(callable=f"transformers:{name}", arguments={"config": described})


def _segmentation_models(module: nn.Module) -> Iterator[Builder]:
    library = "segmentation_models_pytorch"
    name = type(module).__name__
    public = getattr(importlib.import_module(library), name, None)
    # What the constructor was called with: the library keeps it for its own `save_pretrained`.
    config: object = getattr(module, "config", None)
    if public is not type(module) or not isinstance(config, dict):
        return
    described = _as_json(cast("dict[str, Any]", config))
    if described is not None:
        yield Builder(callable=f"{library}:{name}", arguments={**described, "encoder_weights": None})


def _as_json(value: Any) -> Any:
    """Return the value as JSON gives it back, None where it is no JSON."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return None


_GUESSES: dict[str, Callable[[nn.Module], Iterator[Builder]]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
    "segmentation_models_pytorch": _segmentation_models,
}
