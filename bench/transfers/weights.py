"""State_dicts whose every byte is new in each round. It imports torch alone, for MLflow's Python runs it, too."""

from typing import Any

import torch

SIDE = 2048
TENSOR_BYTES = SIDE * SIDE * 4


def make_state_dict(size_bytes: int) -> dict[str, torch.Tensor]:
    """Return random float32 tensors of 16 MiB each."""
    count = max(size_bytes // TENSOR_BYTES, 1)
    return {f"{number}.weight": torch.rand(SIDE, SIDE) for number in range(count)}


def change(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Change each number of a state_dict where it is, so that nothing of it is anywhere yet, and return it."""
    for tensor in state_dict.values():
        tensor.mul_(0.999)
    return state_dict


def make_module(size_bytes: int) -> Any:
    """Return a module whose state_dict is like that of `make_state_dict`, its parameters in memory already."""
    count = max(size_bytes // TENSOR_BYTES, 1)
    with torch.no_grad():
        module = torch.nn.Sequential(
            *(torch.nn.utils.skip_init(torch.nn.Linear, SIDE, SIDE, bias=False) for _ in range(count))
        )
        for parameter in module.parameters():
            parameter.zero_()
    return module
