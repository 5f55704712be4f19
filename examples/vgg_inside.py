"""A net around VGG-19: all of it filled, its 1,000-way layer too; everything frozen but a linear layer of one's own."""

import torch
from support import torchvision_operators
from support.digits import digits
from support.registry import connected
from support.story import chapter, prove, show
from support.training import accuracy, train
from torch import Tensor, nn

torchvision_operators.declare()

import torchvision  # noqa: E402 - its operators must be declared first

from weighbridge import Client, apply_recipe  # noqa: E402 - kept with its neighbours


class Net(nn.Module):
    """VGG-19 with a linear layer after its own last one."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.vgg = torchvision.models.vgg19()
        self.out = nn.Linear(1000, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (images, classes), of images, (images, 3, side, side)."""
        return self.out(self.vgg(images))


def main(hub: Client) -> None:
    """Push a VGG-19, load it into a net, train the net's own layer, and take the recipe elsewhere."""
    torch.manual_seed(0)
    chapter("1. A VGG-19 is in the registry")
    pretrained = torchvision.models.vgg19()
    base = hub.push("examples/vgg19", pretrained)

    chapter("2. It fills the `vgg` of a net, with its 1,000-way layer, which the net keeps")
    net = Net(10)
    result = hub.load_backbone(base.reference, net, into="vgg", freeze=True)
    show(str(result))
    last = pretrained.classifier[6].weight
    prove("the layer with 1,000 outputs is filled, too", torch.equal(net.vgg.classifier[6].weight, last))
    trained = [name for name, each in net.named_parameters() if each.requires_grad]
    prove("only the net's own layer is trained", trained == ["out.weight", "out.bias"])

    chapter("3. Thirty images of digits")
    few, others = digits(range(10)).split(30)
    mine = net.out.weight.detach().clone()
    train(net, few, net.out.parameters(), epochs=2)
    show(f"{accuracy(net, others.split(100)[0]):.0%} of 100 others are right (the features were never trained)")
    filled = torch.equal(net.vgg.features[0].weight, pretrained.features[0].weight)
    prove("it moved, and nothing else did", filled and not torch.equal(net.out.weight, mine))

    chapter("4. A colleague fills the same net and freezes what was frozen")
    version = hub.push("examples/vgg19-digits", net, base=base.reference)
    theirs = Net(10)
    hub.load_into(version.reference, theirs)
    if version.recipe is None:
        apply_recipe(theirs, {"frozen": ["vgg.*"]})
    else:
        apply_recipe(theirs, version.recipe)
    prove("they train the same layer", [n for n, p in theirs.named_parameters() if p.requires_grad] == trained)


if __name__ == "__main__":
    with connected() as hub:
        main(hub)
