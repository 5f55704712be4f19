"""Transfer learning with transformers: the trunk of one ViT goes into another task's module."""

import torch
from support import torchvision_operators
from support.digits import digits
from support.registry import connected
from support.story import chapter, prove, show
from support.training import accuracy, train

torchvision_operators.declare()

from transformers import ViTConfig, ViTForImageClassification  # noqa: E402 - may import torchvision

from weighbridge import Client  # noqa: E402 - kept with its neighbours


def vit(num_labels: int) -> ViTForImageClassification:
    """Return a small vision transformer for images of 32 x 32 pixels."""
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
        image_size=32, patch_size=8, num_labels=num_labels,
    )  # fmt: skip
    return ViTForImageClassification(config)


def main(hub: Client) -> None:
    """Push the trunk alone, load it under a new classifier, unfreeze its last layer, push and build again."""
    torch.manual_seed(0)
    chapter("1. A trunk is trained on 0 to 4 and pushed without its classifier")
    pretrained = vit(5)
    known, unseen = digits(range(5)).split(700)
    train(pretrained, known, pretrained.parameters(), epochs=8, logits=lambda output: output.logits)
    top1 = accuracy(pretrained, unseen, logits=lambda output: output.logits)
    base = hub.push("examples/vit-trunk", pretrained.vit, metrics={"top1": top1})
    prove(f"with its classifier it tells 0 to 4 apart ({top1:.0%})", top1 > 0.6)

    chapter("2. It goes into the `vit` of a classifier of 5 to 9")
    net = vit(5)
    show(str(hub.check(base.reference, net)))
    result = hub.load_backbone(base.reference, net, into="vit", freeze=True)
    prove("only the classifier is new", {name.partition(".")[0] for name in result.missing_keys} <= {"classifier"})

    chapter("3. Its last layer may learn, too")
    from weighbridge import unfreeze

    unfreeze(net, only=("vit.layers.2.*", "vit.layernorm.*"))
    few, others = digits(range(5, 10)).split(200)
    frozen = {name: value.clone() for name, value in net.named_parameters() if not value.requires_grad}
    trainable = [each for each in net.parameters() if each.requires_grad]
    train(net, few, trainable, epochs=20, lr=3e-3, logits=lambda output: output.logits)
    better = accuracy(net, others, logits=lambda output: output.logits)
    parameters = dict(net.named_parameters())
    prove("the frozen layers did not move", all(torch.equal(value, parameters[name]) for name, value in frozen.items()))
    prove(f"from 200 images: {better:.0%}", better > 0.4)

    chapter("4. The whole is pushed and built again from the registry")
    version = hub.push("examples/vit-classifier", net, base=base.reference, metrics={"top1": better})
    again = hub.load(version.reference, eval=True)
    same = accuracy(again, others, logits=lambda output: output.logits) == better
    prove("it answers as the module that was pushed", same)


if __name__ == "__main__":
    with connected() as hub:
        main(hub)
