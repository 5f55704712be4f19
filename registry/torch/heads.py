"""The head of a module: which layers it is, and new ones in their place."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import nn
from torch.nn.parameter import is_lazy

from registry.architecture import Architecture
from registry.compat.heads import find_head, guess_head
from registry.errors import InvalidRequestError, UnsupportedValueError
from registry.tensor_spec import TensorSpec
from registry.torch.architecture import architecture_of
from registry.torch.frozen_names import iter_modules

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_COUNTS = ("num_classes", "num_labels", "n_classes")
"""What modules call the number of classes that their head tells apart."""


def find_heads(module: nn.Module, wanted: str | Sequence[str] | None, recorded: Sequence[str]) -> list[str]:
    """Return the names of the layers that are a module's head.

    Args:
        module: without wrappers.
        wanted: names of layers, or of modules whose last layer is meant; each member of a ModuleList is one.
        recorded: names that something else gave, the most reliable first; those that are not there are passed over.

    Raises:
        InvalidRequestError: a wanted module does not exist, or has no layer with weights.
    """
    modules = dict(iter_modules(module))
    if wanted is None:
        return _find_unasked(module, modules, recorded)
    found: list[str] = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if not name or name not in modules:
            raise InvalidRequestError(_say_no_head(module, modules, name, recorded))
        layers = _last_layers(modules, name) or ([name] if name in _timm_names(module) else [])
        if not layers:
            raise InvalidRequestError(
                f"{name!r} of {type(module).__name__} is a {type(modules[name]).__name__} without a layer that has "
                "weights; name the layer that puts out the classes."
            )
        found += layers
    return list(dict.fromkeys(found))


def replace_heads(module: nn.Module, heads: Sequence[str], num_classes: int) -> list[str]:
    """Put new layers with `num_classes` outputs in the place of the head's, of the same class; return their names.

    Raises:
        UnsupportedValueError: nobody knows how to make such a layer of another size.
    """
    timm_names = _timm_names(module)
    if timm_names and set(heads) <= set(timm_names):
        cast("Any", module).reset_classifier(num_classes)
        return _timm_names(module)
    modules = dict(iter_modules(module))
    for name in heads:
        parent_name, _, local = name.rpartition(".")
        layer = modules[name]
        before = cast("nn.Parameter", layer.weight).shape[0]
        setattr(modules[parent_name], local, _resized(layer, num_classes, name))
        for above in _parents(name):
            for count in _COUNTS:
                if vars(modules[above]).get(count) == before:
                    setattr(modules[above], count, num_classes)
    return list(heads)


def note_classes(module: nn.Module, num_classes: int) -> None:
    """Tell the configuration of a transformers module how many classes there are now."""
    config: Any = getattr(module, "config", None)
    if isinstance(getattr(config, "num_labels", None), int) and config.num_labels != num_classes:
        config.num_labels = num_classes


def _find_unasked(module: nn.Module, modules: dict[str, nn.Module], recorded: Sequence[str]) -> list[str]:
    timm_names = _timm_names(module)
    if timm_names:
        return timm_names
    there = [layer for name in recorded if name in modules for layer in _last_layers(modules, name)]
    return list(dict.fromkeys(there)) or _guess(module, modules)


def _timm_names(module: nn.Module) -> list[str]:
    """Return the names of what a timm module says its classifiers are."""
    if not (hasattr(module, "reset_classifier") and hasattr(module, "get_classifier")):
        return []
    said: object = cast("Any", module).get_classifier()
    layers = cast("tuple[object, ...]", said) if isinstance(said, tuple) else (said,)
    names = {id(each): name for name, each in reversed(list(iter_modules(module)))}
    return [names[id(each)] for each in layers if id(each) in names]


def _guess(module: nn.Module, modules: dict[str, nn.Module]) -> list[str]:
    """Return the last layer with weights, and those of as many outputs that end a branch of their own."""
    have = architecture_of(module)
    guessed = [name for name in guess_head(have) if name in modules]
    if not guessed:
        return []
    outputs = _outputs(modules[guessed[0]])
    alike = [name for name, each in modules.items() if outputs is not None and _outputs(each) == outputs]
    changed = [_with_one_more(have, name) for name in alike]
    pairs = [pair for each in changed for pair in each]
    wider = {new.name: new for _, new in pairs}
    want = Architecture((wider.get(name, spec) for name, spec in have.tensors.items()), entries=have.entries)
    return find_head(have, want, pairs, len(have.tensors) - len(pairs)) or guessed


def _with_one_more(have: Architecture, module: str) -> Iterator[tuple[TensorSpec, TensorSpec]]:
    for local in ("weight", "bias"):
        spec = have.tensors.get(f"{module}.{local}")
        if spec is not None:
            yield spec, spec._replace(shape=(spec.shape[0] + 1, *spec.shape[1:]))


def _outputs(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, _CONVOLUTIONS) else None


def _last_layers(modules: dict[str, nn.Module], name: str) -> list[str]:
    """Return the layers that a module's name means: itself, its last one, or the last one of each member of a list."""
    module = modules[name]
    if _is_layer(module):
        return [name]
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return [layer for child, _ in module.named_children() for layer in _last_layers(modules, f"{name}.{child}")]
    return [each for each in modules if each.startswith(f"{name}.") and _is_layer(modules[each])][-1:]


def _is_layer(module: nn.Module) -> bool:
    # Of attention, `in_proj_weight` is a matrix and its `out_proj` is the layer.
    weight: object = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and not is_lazy(weight) and weight.dim() > 1


def _resized(layer: nn.Module, num_classes: int, name: str) -> nn.Module:
    arguments: dict[str, Any]
    if isinstance(layer, nn.Linear):
        arguments = {"in_features": layer.in_features, "out_features": num_classes}
    elif isinstance(layer, _CONVOLUTIONS) and not layer.transposed:
        kept = ("in_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        arguments = {**{each: getattr(layer, each) for each in kept}, "out_channels": num_classes}
    else:
        raise UnsupportedValueError(_say_unknown_layer(layer, name))
    weight = layer.weight
    arguments |= {"bias": layer.bias is not None, "device": weight.device, "dtype": weight.dtype}
    try:
        made = type(layer)(**arguments)
    except (TypeError, ValueError) as error:
        raise UnsupportedValueError(f"{_say_unknown_layer(layer, name)} ({error})") from error
    return made.train(layer.training)


def _parents(name: str) -> Iterator[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name


def _say_unknown_layer(layer: nn.Module, name: str) -> str:
    return (
        f"{name!r} is a {type(layer).__name__}, and how to make one with another number of classes is not known. Put "
        "your own layer there and leave num_classes out."
    )


def _say_no_head(module: nn.Module, modules: dict[str, nn.Module], name: str, recorded: Sequence[str]) -> str:
    right = _find_unasked(module, modules, recorded)
    shown = " and ".join(f"`{each}`" for each in right)
    known = f"its head is {shown}" if right else "no head was found"
    return f"{type(module).__name__} has no `{name}`; {known}."
