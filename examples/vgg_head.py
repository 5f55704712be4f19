"""VGG-16 with another last layer: the swap of `classifier[6]` that every tutorial has, without its pitfalls."""

import torch
from support import torchvision_operators
from support.digits import digits
from support.registry import connected
from support.story import chapter, prove, refused, show
from support.training import accuracy, train

torchvision_operators.declare()

import torchvision  # noqa: E402 - its operators must be declared first

from weighbridge import Client, InvalidRequestError  # noqa: E402 - kept with its neighbours


def main(hub: Client) -> None:
    """Push a VGG-16; ask for a head that it does not have; swap the one it has; train that."""
    torch.manual_seed(0)
    chapter("1. A VGG-16 is in the registry")
    base = hub.push("examples/vgg16", torchvision.models.vgg16())
    prove(
        "its head was recorded", base.pretrained_cfg is not None and base.pretrained_cfg.classifier == ["classifier.6"]
    )

    chapter("2. A VGG has no `fc`")
    net = torchvision.models.vgg16()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    error = refused(lambda: hub.prepare_finetune(base.reference, net, head="fc", num_classes=10), InvalidRequestError)
    prove("the error names the head that it has", "classifier.6" in str(error))
    prove(
        "and the module is what it was",
        all(torch.equal(before[name], value) for name, value in net.state_dict().items()),
    )

    chapter("3. Its head gets ten classes; everything else is filled and stays")
    tuned = hub.prepare_finetune(base.reference, net, num_classes=10, lr=1e-3, freeze=True)
    show(str(tuned))
    prove("the last layer tells ten classes apart", net.classifier[6].out_features == 10)
    trained = [name for name, each in net.named_parameters() if each.requires_grad]
    prove("nothing else is trained", trained == ["classifier.6.weight", "classifier.6.bias"])

    chapter("4. Thirty images of digits")
    few, others = digits(range(10)).split(30)
    train(net, few, tuned.param_groups, epochs=3)
    show(f"{accuracy(net, others.split(100)[0]):.0%} of 100 others are right (the features were never trained)")
    version = hub.push("examples/vgg16-digits", net, base=base.reference)
    prove("the recipe says what was new", version.recipe is not None and version.recipe.head == ["classifier.6"])


if __name__ == "__main__":
    with connected() as hub:
        main(hub)
