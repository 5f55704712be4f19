"""Segmentation with segmentation_models_pytorch: a U-Net whose encoder is a classifier's backbone in the registry."""

import torch
from support import torchvision_operators
from support.digits import digits, strokes
from support.registry import connected
from support.story import chapter, prove, show
from support.training import accuracy, train

torchvision_operators.declare()

import segmentation_models_pytorch as smp  # noqa: E402 - imports torchvision, whose operators must be declared first
import torchvision  # noqa: E402 - as above

from weighbridge import Client  # noqa: E402 - kept with its neighbours


def main(hub: Client) -> None:
    """Push a classifier; load its backbone into a U-Net's encoder; train the decoder."""
    torch.manual_seed(0)
    chapter("1. A classifier of digits is in the registry")
    classifier = torchvision.models.resnet18(num_classes=10)
    known, unseen = digits(range(10)).split(600)
    train(classifier, known, classifier.parameters(), epochs=2)
    base = hub.push("examples/resnet18-all-digits", classifier, metrics={"top1": accuracy(classifier, unseen)})

    chapter("2. Its backbone goes into the encoder of a U-Net")
    net = smp.Unet("resnet18", encoder_weights=None, classes=2)
    result = hub.load_backbone(base.reference, net, into="encoder", freeze=True)
    show(str(result))
    encoder = {name: value.clone() for name, value in net.encoder.state_dict().items()}
    first = classifier.state_dict()["conv1.weight"]
    prove("the encoder begins with the classifier's first convolution", torch.equal(encoder["conv1.weight"], first))

    chapter("3. The decoder learns which pixels are ink")
    pixels, others = strokes().split(100)
    others = others.split(100)[0]
    before = accuracy(net, others)
    train(net, pixels, (each for each in net.parameters() if each.requires_grad), epochs=4)
    after = accuracy(net, others)
    prove(f"pixels that are right: {before:.0%} before, {after:.0%} after", after > max(before, 0.8))
    moved = [name for name, value in net.encoder.state_dict().items() if not torch.equal(value, encoder[name])]
    prove("the encoder is what it was, its statistics too", moved == [])


if __name__ == "__main__":
    with connected() as hub:
        main(hub)
