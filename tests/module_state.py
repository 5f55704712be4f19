"""Everything that a failed load must leave as it was, as values that compare equal."""

import copy

import torch
from torch import nn


def state_of(module: nn.Module) -> dict:
    """Return the bits, dtypes, identities and gradients' wishes of a module's tensors, and its other attributes."""
    tensors = {}
    for kind, found in (
        ("parameter", module.named_parameters(remove_duplicate=False)),
        ("buffer", module.named_buffers(remove_duplicate=False)),
    ):
        for name, each in found:
            tensors[kind, name] = (id(each), each.dtype, tuple(each.shape), each.requires_grad, bits_of(each))
    plain = {
        (name, attribute): copy.deepcopy(value)
        for name, part in module.named_modules(remove_duplicate=False)
        for attribute, value in vars(part).items()
        if isinstance(value, str | int | float | list | dict | None) and not attribute.startswith("_")
    }
    modules = {name: id(part) for name, part in module.named_modules(remove_duplicate=False)}
    return {"tensors": tensors, "plain": plain, "modules": modules}


def bits_of(tensor: torch.Tensor) -> bytes | None:
    """Return a tensor's bytes, row by row; None for one without values."""
    if tensor.is_meta:
        return None
    return bytes(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def same_values(module: nn.Module, state_dict: dict) -> bool:
    """Return whether the module holds the values of a state_dict, in all its names."""
    loaded = module.state_dict()
    return all(torch.equal(loaded[name], value) for name, value in state_dict.items() if torch.is_tensor(value))
