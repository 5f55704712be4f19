"""Whole pickled modules of the libraries that people use, as small as they come."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def _torchvision(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None, num_classes=3, **settings)

    return make


def _timm(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=3)

    return make


def _transformers(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        sizes = {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "vocab_size": 20,
        }
        if name == "GPT2":
            sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 20}
        return getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes))

    return make


_TORCHVISION = ("squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5")
_TIMM = ("test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet")

MODULES: dict[str, Callable[[], nn.Module]] = {
    **{f"torchvision-{name}": _torchvision(name) for name in _TORCHVISION},
    "torchvision-vit": lambda: __import__("torchvision").models.VisionTransformer(32, 16, 1, 2, 8, 16, num_classes=3),
    **{f"timm-{name}": _timm(name) for name in _TIMM},
    **{f"transformers-{name}": _transformers(name) for name in ("Bert", "DistilBert", "GPT2", "Llama")},
    "compiled": lambda: torch.compile(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))),  # type: ignore[dict-item]
    "shared": lambda: nn.Sequential(*[nn.Linear(2, 2)] * 3),
}  # fmt: skip
"""By name: makes the module. Its file is `code`, and holds the names of its state_dict."""
