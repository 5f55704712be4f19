"""Real architectures with random numbers, and what fine-tuning changes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from support import torchvision_operators

torchvision_operators.declare()

import torchvision  # noqa: E402 - its operators are declared first

StateDict = dict[str, torch.Tensor]
HEADS = {
    "resnet50": ("fc.",),
    "vgg16": ("classifier.6.",),
    "densenet121": ("classifier.",),
    "efficientnet_b7": ("classifier.1.",),
}
CLASSES = 10
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Network:
    """An architecture of torchvision whose head is for ten classes.

    Attributes:
        name: as torchvision calls it.
    """

    name: str

    def make_state_dict(self) -> StateDict:
        """Return the state_dict of a module with random numbers."""
        return self._make(num_classes=CLASSES).state_dict()

    def change_head(self, state_dict: StateDict) -> list[torch.Tensor]:
        """Change the head where it is; return what changed."""
        return _change(state_dict, lambda name: name.startswith(HEADS[self.name]))

    def change_statistics(self, state_dict: StateDict) -> list[torch.Tensor]:
        """Change the head and all running statistics where they are; return what changed."""
        return _change(state_dict, lambda name: name.startswith(HEADS[self.name]) or name.endswith(_STATISTICS))

    @staticmethod
    def has_statistics(state_dict: StateDict) -> bool:
        """Return whether there is a normalisation whose running statistics move in training."""
        return any(name.endswith(_STATISTICS) for name in state_dict)

    def change_all(self, state_dict: StateDict) -> list[torch.Tensor]:
        """Change every tensor where it is; return them."""
        return _change(state_dict, lambda _: True)

    @property
    def _make(self) -> Any:
        return getattr(torchvision.models, self.name)


def _change(state_dict: StateDict, is_changed: Callable[[str], bool]) -> list[torch.Tensor]:
    changed = [tensor for name, tensor in state_dict.items() if is_changed(name)]
    for tensor in changed:
        tensor.copy_(torch.rand(tensor.shape) if tensor.is_floating_point() else tensor + 1)
    return changed


def allowed_bytes(changed: list[torch.Tensor], tensors: int) -> int:
    """Return how many bytes may pass, both ways, to bring a change: its tensors, 800 bytes a tensor and 64 KiB."""
    return sum(tensor.nbytes for tensor in changed) + 800 * tensors + (64 << 10)
