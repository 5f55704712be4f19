"""Transfer learning with timm: two learning rates, and a backbone that was trained on smaller images."""

from typing import Any

import torch
from support import torchvision_operators
from support.digits import digits
from support.registry import connected
from support.story import chapter, prove, refused, show
from support.training import accuracy, train

torchvision_operators.declare()

import timm  # noqa: E402 - imports torchvision, whose operators must be declared first

from weighbridge import Client, StateDictMismatchError  # noqa: E402 - kept with its neighbours

SMALL, LARGE = 32, 48
"""Sides of images, in pixels."""


def vit_arguments(side: int) -> dict[str, Any]:
    """Return what timm makes a small vision transformer of, with patches of 8 x 8 pixels and five classes."""
    return {"model_name": "test_vit", "num_classes": 5, "img_size": side, "patch_size": 8}


def vit(side: int) -> torch.nn.Module:
    """Return that vision transformer."""
    return timm.create_model(**vit_arguments(side))


def vit_builder(side: int) -> dict[str, Any]:
    """Return how to make it again, for the registry: the patch size is nothing that a module tells."""
    return {"callable": "timm:create_model", "arguments": vit_arguments(side)}


def main(hub: Client) -> None:
    """Pretrain at one size, fine-tune at another."""
    torch.manual_seed(0)
    chapter("1. A vision transformer learns the digits 0 to 4 on small images")
    pretrained = vit(SMALL)
    known, unseen = digits(range(5), SMALL).split(700)
    train(pretrained, known, pretrained.parameters(), epochs=8)
    top1 = accuracy(pretrained, unseen)
    base = hub.push("examples/vit-digits", pretrained, metrics={"top1": top1}, builder=vit_builder(SMALL))
    prove(f"it tells 0 to 4 apart ({top1:.0%})", top1 > 0.6)
    prove("how to build it was recorded", base.builder is not None)

    chapter("2. On larger images it has more patches, and their positions do not fit")
    net = vit(LARGE)
    refused(lambda: hub.load_backbone(base.reference, net), StateDictMismatchError)

    chapter("3. They are resized when somebody asks for it")
    rates = {"backbone": 5e-4, "head": 5e-3}
    tuned = hub.prepare_finetune(base.reference, net, num_classes=5, lr=rates, adapt=("resize_position",))
    show(str(tuned))
    few, others = digits(range(5, 10), LARGE).split(200)
    train(net, few, tuned.param_groups, epochs=15)
    better = accuracy(net, others)
    scratch = vit(LARGE)
    train(scratch, few, scratch.parameters(), epochs=15)
    alone = accuracy(scratch, others)
    prove(f"from 200 images: {better:.0%} with the backbone, {alone:.0%} without", better > alone)

    chapter("4. The result is built and filled in one call")
    made = {"base": base.reference, "builder": vit_builder(LARGE)}
    version = hub.push("examples/vit-more-digits", net, metrics={"top1": better}, alias="best", **made)
    again = hub.load("examples/vit-more-digits@best", eval=True)
    prove(f"{version.reference} answers as the module that was pushed", accuracy(again, others) == better)


if __name__ == "__main__":
    with connected() as hub:
        main(hub)
