"""What a module takes and gives, as far as it says so itself, and what torchvision's `Weights` say of theirs.

Only facts: what the module does not show stays empty. The head is the layers whose shapes change when the proven
builder is called with another number of classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from registry.module_info import Builder, PretrainedConfig
from registry.torch.builders import find_built

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_OF_THE_MODULE = ("num_classes", "classifier", "first_conv")
"""Members that the module itself decides, whatever weights it was first filled with."""


def infer_pretrained_cfg(module: nn.Module, builder: Builder | None) -> PretrainedConfig | None:
    """Return what a module says of itself, None when that is nothing.

    Args:
        module: in memory, on any device.
        builder: proven to make it again; None when none is known.
    """
    described: object = getattr(module, "pretrained_cfg", None)
    if type(module).__module__.startswith("timm.") and isinstance(described, Mapping):
        found = _of_timm(module, cast("Mapping[str, Any]", described), builder)
    elif builder is None:
        return None
    else:
        head = find_head(module, builder)
        found = PretrainedConfig(
            num_classes=_class_count(builder, module) if head else None,
            classifier=head,
            first_conv=_first_convolution(module),
            class_names=_labels(module) if head else [],
        )
    return found if found != PretrainedConfig() else None


def find_head(module: nn.Module, builder: Builder) -> list[str]:
    """Return the modules whose tensors have other shapes when the builder makes one class more; empty for none."""
    count = _class_count(builder, module)
    made = find_built(_with_class_count(builder, (count or 1) + 1))
    if made is None:
        return []
    ours, theirs = _shapes(module), _shapes(made)
    return list(dict.fromkeys(name.rpartition(".")[0] for name, shape in ours.items() if theirs.get(name) != shape))


def describe_weights(weights: Any) -> PretrainedConfig:
    """Return what a member of a torchvision `Weights` says of the module that it was made for.

    Args:
        weights: such as `ResNet50_Weights.IMAGENET1K_V2`.
    """
    transforms: Any = weights.transforms()
    crop, resize = _sides(transforms, "crop_size"), _sides(transforms, "resize_size")
    names = [str(each) for each in weights.meta.get("categories") or ()]
    mean = [float(each) for each in getattr(transforms, "mean", None) or ()]
    known: dict[str, Any] = {
        "num_classes": len(names) or None,
        "input_size": (len(mean), *crop) if crop and mean else None,
        "mean": mean,
        "std": [float(each) for each in getattr(transforms, "std", None) or ()],
        "interpolation": getattr(getattr(transforms, "interpolation", None), "value", None),
        "crop_pct": crop[0] / resize[0] if crop and resize and crop[0] == crop[1] and resize[0] == resize[1] else None,
        "class_names": names,
    }
    return PretrainedConfig(**known)


def is_weights(value: object) -> bool:
    """Return whether a value is a member of a torchvision `Weights`."""
    return any(each.__name__ == "WeightsEnum" for each in type(value).__mro__)


def combine(given: PretrainedConfig, inferred: PretrainedConfig, *, of_weights: bool) -> PretrainedConfig:
    """Return what was given, filled up with what the module says.

    Args:
        given: by the caller.
        inferred: from the module.
        of_weights: the given ones describe published weights; the module's own head counts then, and other classes'
            names are left out.
    """
    said = {name: getattr(given, name) for name in given.model_fields_set}
    if of_weights:
        said = {name: value for name, value in said.items() if name not in _OF_THE_MODULE or value is not None}
        own = {name: getattr(inferred, name) for name in _OF_THE_MODULE if getattr(inferred, name)}
        if own.get("num_classes") not in {None, len(given.class_names)}:
            said.pop("class_names", None)
        said |= own
    filled = {name: getattr(inferred, name) for name in inferred.model_fields_set if name not in said}
    return PretrainedConfig.model_validate({**filled, **said})


def _of_timm(module: nn.Module, described: Mapping[str, Any], builder: Builder | None) -> PretrainedConfig:
    """Return timm's `pretrained_cfg` as far as it holds for this module: others heads and input channels differ."""
    parts = dict(cast("Any", module.named_modules()))
    head, first = (_with_tensors(parts, described.get(name)) for name in ("classifier", "first_conv"))
    channels, size = _input_size(module, parts, first, described)
    same_channels = channels == len(described.get("mean") or ())
    count = _class_count(builder, module) if builder is not None else None
    count = _outputs(parts[head[0]]) if count is None and head else count
    names = [str(each) for each in described.get("label_names") or ()]
    return PretrainedConfig(
        num_classes=count if head else 0,
        classifier=head,
        first_conv=first,
        input_size=size,
        mean=[float(each) for each in described["mean"]] if same_channels else [],
        std=[float(each) for each in described["std"]] if same_channels else [],
        interpolation=described.get("interpolation"),
        crop_pct=described.get("crop_pct"),
        class_names=names if head and len(names) == count else [],
    )


def _with_tensors(parts: Mapping[str, nn.Module], names: object) -> list[str]:
    listed = [names] if isinstance(names, str) else cast("Iterable[str]", names or ())
    return [name for name in listed if name in parts and parts[name].state_dict()]


def _input_size(
    module: nn.Module, parts: Mapping[str, nn.Module], first: Sequence[str], described: Mapping[str, Any]
) -> tuple[int | None, tuple[int, int, int] | None]:
    """Return the number of input channels, and with the sides the size."""
    entering = [each for name in first for each in parts[name].modules() if isinstance(each, _CONVOLUTIONS)]
    said: Sequence[int] | None = described.get("input_size")
    if said is None:
        return None, None
    channels = entering[0].in_channels if entering else said[0]
    sides: Any = getattr(getattr(module, "patch_embed", None), "img_size", None) or said[1:]
    return channels, (channels, int(sides[0]), int(sides[1]))


def _class_count(builder: Builder, module: nn.Module) -> int | None:
    """Return the number of classes that a builder was given."""
    if builder.callable.startswith("transformers:"):
        labels: object = getattr(getattr(module, "config", None), "num_labels", None)
        return labels if isinstance(labels, int) else None
    count = builder.arguments.get("classes" if _segments(builder) else "num_classes")
    return count if isinstance(count, int) else None


def _with_class_count(builder: Builder, count: int) -> Builder:
    arguments: dict[str, Any] = dict(builder.arguments)
    if builder.callable.startswith("transformers:"):
        config = {name: value for name, value in arguments["config"].items() if name not in {"id2label", "label2id"}}
        arguments["config"] = {**config, "num_labels": count}
    elif _segments(builder):
        arguments["classes"] = count
        if isinstance(arguments.get("aux_params"), dict):
            arguments["aux_params"] = {**arguments["aux_params"], "classes": arguments["aux_params"]["classes"] + 1}
    else:
        arguments["num_classes"] = count
    return Builder(callable=builder.callable, arguments=arguments)


def _segments(builder: Builder) -> bool:
    return builder.callable.startswith("segmentation_models_pytorch:")


def _first_convolution(module: nn.Module) -> list[str]:
    """Return the first convolution, in the order in which the library's own modules are made and called."""
    channels: object = getattr(getattr(module, "config", None), "num_channels", None)
    if type(module).__module__.startswith("transformers.") and channels is None:
        return []
    named = cast("Iterable[tuple[str, nn.Module]]", module.named_modules())
    return [name for name, each in named if isinstance(each, _CONVOLUTIONS)][:1]


def _labels(module: nn.Module) -> list[str]:
    """Return the labels of a transformers configuration, where somebody gave them names."""
    labels: object = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(labels, Mapping):
        return []
    named = cast("Mapping[int, str]", labels)
    ordered = [str(named.get(number, "")) for number in range(len(named))]
    return [] if ordered == [f"LABEL_{number}" for number in range(len(named))] or "" in ordered else ordered


def _outputs(head: nn.Module) -> int | None:
    last = [each for each in head.modules() if isinstance(each, nn.Linear | nn.Conv2d)][-1:]
    return next((each.out_features if isinstance(each, nn.Linear) else each.out_channels for each in last), None)


def _sides(transforms: Any, name: str) -> tuple[int, int] | None:
    given: Any = getattr(transforms, name, None)
    if not given:
        return None
    sides = [int(each) for each in cast("Iterable[int]", given)] if isinstance(given, list | tuple) else [int(given)]
    return (sides[0], sides[-1])


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
