"""Networks of torchvision and timm by name, built without their weights."""

import inspect
import warnings
from functools import partial

import timm
import torch
import torchvision

from registry.architecture import Architecture
from registry.torch.architecture import architecture_of


def build_network(name: str) -> Architecture:
    """Return the architecture of `torchvision:resnet18` or `timm:resnet18`, built on the meta device.

    Raises:
        NotImplementedError, RuntimeError: the network computes with values as it is built.
    """
    library, _, network = name.partition(":")
    make = (
        torchvision.models.get_model_builder(network)
        if library == "torchvision"
        else partial(timm.create_model, network)
    )
    backbone = {"weights_backbone": None} if "weights_backbone" in inspect.signature(make).parameters else {}
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return architecture_of(make(**backbone))
