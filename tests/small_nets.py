"""Networks of a few numbers: a trunk with a head, and tied weights."""

import torch
from torch import nn


class Net(nn.Module):
    """A trunk of some layers and a head."""

    def __init__(self, *, depth: int = 3, classes: int = 5, width: int = 4, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.layers = nn.Sequential(*(Block(width, norm=norm) for _ in range(depth)))
        self.fc = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layers(self.stem(images)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, width: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(images))


class Tied(nn.Module):
    def __init__(self, rows: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(rows, 3)
        self.inner = nn.Linear(3, 3)
        self.head = nn.Linear(3, rows, bias=False)
        self.head.weight = self.embed.weight


class Stateful(nn.Module):
    """Keeps something beside its tensors, which can refuse what it is given."""

    def __init__(self, scale: float = 1.0, *, refuses: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.scale, self.refuses, self.history = scale, refuses, ["made"]

    def get_extra_state(self) -> dict[str, float]:
        return {"scale": self.scale}

    def set_extra_state(self, state: dict[str, float]) -> None:
        self.scale = state["scale"]
        self.history.append("loaded")
        if self.refuses:
            raise ValueError("half of it is enough")
