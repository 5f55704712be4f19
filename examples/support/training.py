"""The part of an example that is no example: a plain training loop, and counting right answers."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from support.digits import Images

BATCH = 64


def train(
    module: nn.Module,
    images: Images,
    parameters: Iterable[Any],
    *,
    epochs: int = 3,
    lr: float = 1e-3,
    logits: Callable[[Any], Tensor] = lambda output: output,
) -> None:
    """Train with AdamW on cross entropy.

    Args:
        module: in training mode afterwards.
        images: shown in a new order in every epoch.
        parameters: tensors, or groups as `torch.optim` takes them.
        epochs: how often every image is shown.
        lr: for what brings no learning rate of its own.
        logits: finds them in what the module returns.
    """
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    module.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images.labels)).split(BATCH):
            if len(batch) < 2:
                continue  # BatchNorm has no statistics of one image
            loss = nn.functional.cross_entropy(logits(module(images.inputs[batch])), images.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy(module: nn.Module, images: Images, logits: Callable[[Any], Tensor] = lambda output: output) -> float:
    """Return the fraction of labels that the module gets right, between 0 and 1."""
    module.eval()
    said = torch.cat([logits(module(batch)).argmax(1) for batch in images.inputs.split(256)])
    return (said == images.labels).float().mean().item()
