"""Transfer learning with torchvision: a ResNet-18 that knows the digits 0 to 4 learns 5 to 9 from a few images."""

import torch
from support import torchvision_operators
from support.digits import digits
from support.registry import connected
from support.story import chapter, prove, show
from support.training import accuracy, train

torchvision_operators.declare()

import torchvision  # noqa: E402 - its operators must be declared first

from weighbridge import Client, freeze  # noqa: E402 - kept with its neighbours

FEW = 60
"""Images of the new digits to learn from."""


def main(hub: Client) -> None:
    """Pretrain and push; look, fine-tune the head alone, and push that."""
    torch.manual_seed(0)
    chapter("1. Somebody pretrains a backbone and pushes it")
    pretrained = torchvision.models.resnet18(num_classes=5)
    known, unseen = digits(range(5)).split(700)
    train(pretrained, known, pretrained.parameters(), epochs=3)
    top1 = accuracy(pretrained, unseen)
    base = hub.push("examples/resnet18-digits", pretrained, metrics={"top1": top1}, tags={"data": "digits 0 to 4"})
    prove(f"it tells 0 to 4 apart ({top1:.0%})", top1 > 0.9)

    chapter("2. Somebody else looks whether it fits")
    net = torchvision.models.resnet18(num_classes=5)
    show(str(hub.check(base.reference, net)))

    chapter("3. … trains a new head on a few images of 5 to 9")
    few, others = digits(range(5, 10)).split(FEW)
    tuned = hub.prepare_finetune(base.reference, net, num_classes=5, lr=1e-2, freeze=True)
    show(str(tuned))
    trunk = {name: value.clone() for name, value in net.state_dict().items() if not name.startswith("fc.")}
    train(net, few, tuned.param_groups, epochs=20)
    kept = net.state_dict()
    prove(
        "no weight and no statistic of the backbone moved", all(torch.equal(trunk[name], kept[name]) for name in trunk)
    )
    better = accuracy(net, others)

    chapter("4. … and compares with the same head on a backbone that knows nothing")
    untrained = torchvision.models.resnet18(num_classes=5)
    freeze(untrained, except_=("fc",))
    train(untrained, few, untrained.fc.parameters(), epochs=20, lr=1e-2)
    alone = accuracy(untrained, others)
    prove(f"from {FEW} images: {better:.0%} with the pretrained backbone, {alone:.0%} without", better > alone)

    chapter("5. … and shares the result with how it was made")
    version = hub.push("examples/resnet18-more-digits", net, base=base.reference, metrics={"top1": better})
    prove("the version names its base", version.base == base.reference)
    prove("and keeps the recipe", version.recipe is not None and version.recipe.head == ["fc"])


if __name__ == "__main__":
    with connected() as hub:
        main(hub)
