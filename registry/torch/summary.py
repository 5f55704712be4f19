"""What a forward pass makes of an input, layer by layer, on the meta device: shapes and memory without any value."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from registry.errors import UnsupportedValueError
from registry.torch.load_hooks import clone_on_meta


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One call of a module that has no modules below it, in the order of the forward pass.

    Attributes:
        name: as in `named_modules`.
        kind: the class.
        output_shape: of the first tensor that it returned, the batch dimension included; empty for none.
        parameter_count: elements of its own parameters; `trainable_count` of those that take gradients.
        size_bytes: of its own parameters and buffers.
        forward_bytes: of all tensors that it returned.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameter_count: int
    trainable_count: int
    size_bytes: int
    forward_bytes: int


def summarise_forward(module: nn.Module, input_size: Sequence[int], *, batch: int = 1) -> list[LayerSummary]:
    """Return the layers that a forward pass of one input calls; the module stays as it is.

    Args:
        module: on any device; a clone without values is run, in eval mode.
        input_size: of one input without the batch dimension, as in `(3, 224, 224)`.
        batch: the batch dimension.

    Raises:
        UnsupportedValueError: the forward pass does not take such an input, or needs values.
    """
    layers: list[LayerSummary] = []
    try:
        clone = clone_on_meta(module).eval()
        for name, each in cast("Any", clone.named_modules()):
            if next(each.children(), None) is None:
                each.register_forward_hook(_watch(name, layers))
        with torch.no_grad(), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clone(torch.empty((batch, *input_size)))
    except Exception as error:
        raise UnsupportedValueError(
            f"{type(module).__name__} does not take an input of size {tuple(input_size)} without its values: {error}"
        ) from error
    return layers


def _watch(name: str, layers: list[LayerSummary]) -> Any:
    def hook(layer: nn.Module, _: object, output: object) -> None:
        tensors = _tensors_of(output)
        parameters = list(layer.parameters())
        held = [*parameters, *layer.buffers()]
        layers.append(
            LayerSummary(
                name=name,
                kind=type(layer).__name__,
                output_shape=tuple(tensors[0].shape) if tensors else (),
                parameter_count=sum(each.numel() for each in parameters),
                trainable_count=sum(each.numel() for each in parameters if each.requires_grad),
                size_bytes=sum(each.numel() * each.itemsize for each in held),
                forward_bytes=sum(each.numel() * each.itemsize for each in tensors),
            )
        )

    return hook


def _tensors_of(output: object) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        return [tensor for each in cast("dict[Any, object]", output).values() for tensor in _tensors_of(each)]
    if isinstance(output, list | tuple):
        return [tensor for each in cast("Sequence[object]", output) for tensor in _tensors_of(each)]
    return []
