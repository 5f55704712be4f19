"""What is said of a pushed module, from the call to the answer of a real server."""

import hashlib
import sys

import pytest
import timm
import torch
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from registry.client.client import Client
from registry.client.described import plain_builder
from registry.errors import InvalidMetadataError
from registry.module_info import Builder, PretrainedConfig


class Net(nn.Linear):
    """Somebody's own module."""


@pytest.fixture
def hub(live_server, tmp_path):
    with Client(live_server.url, cache_dir=tmp_path / "cache") as client:
        yield client


@pytest.fixture
def name(request):
    """A model of this test's own, on a server that tests share."""
    return "vision/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


def test_a_pushed_module_says_what_it_takes(hub, name):
    pushed = hub.push(name, timm.create_model("test_resnet", num_classes=4))

    assert (pushed.pretrained_cfg.num_classes, pushed.pretrained_cfg.classifier) == (4, ["fc"])
    assert pushed.pretrained_cfg.input_size == (3, 160, 160)
    assert hub.show(name).pretrained_cfg == pushed.pretrained_cfg


def test_names_of_classes_are_in_one_version_and_not_in_lists(hub, name):
    weights = ResNet18_Weights.IMAGENET1K_V1
    with torch.device("meta"):
        module = resnet18()
    pushed = hub.push(name, module.to_empty(device="cpu").half(), pretrained_cfg=weights)

    assert pushed.pretrained_cfg.class_names == weights.meta["categories"]
    assert hub.show(name).pretrained_cfg.class_names == weights.meta["categories"]
    (listed,) = hub.versions(name)
    assert (listed.pretrained_cfg.class_names, listed.pretrained_cfg.classifier) == ([], ["fc"])


def test_a_file_is_described_by_what_the_caller_says(hub, name, tmp_path):
    torch.save({"weight": torch.ones(2, 3)}, tmp_path / "model.pt")

    pushed = hub.push(name, tmp_path / "model.pt", builder="my_nets:Net", pretrained_cfg={"num_classes": 2})

    assert pushed.builder == Builder(callable="my_nets:Net", arguments={})
    assert pushed.pretrained_cfg == PretrainedConfig(num_classes=2)
    assert "my_nets" not in sys.modules


@pytest.mark.parametrize(
    ("given", "callable_name"),
    [
        ("my_nets:make", "my_nets:make"),
        ({"callable": "my_nets:Net", "arguments": {"width": 2}}, "my_nets:Net"),
        (Builder(callable="my_nets:Net"), "my_nets:Net"),
        (Net, f"{__name__}:Net"),
        (resnet18, "torchvision.models.resnet:resnet18"),
    ],
)
def test_a_builder_may_be_given_in_many_ways(given, callable_name):
    assert plain_builder(given).callable == callable_name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("no colon", "module.path:callable"),
        ({"callable": "a:b", "width": 2}, "of the form"),
        ({"callable": "a:b", "arguments": {"dtype": torch.float16}}, "'dtype' is a dtype"),
        ({"callable": "a:b", "arguments": {"sizes": (1, 2)}}, "'sizes' is a tuple"),
        ({"callable": "a:b", "arguments": {"rate": float("nan")}}, "'rate' is a float"),
        ({"callable": "a:b", "arguments": [1]}, "by name"),
        (lambda: Net(1, 1), "imported by its name"),
        (7, "not a int"),
    ],
)
def test_a_builder_that_nobody_could_call_is_refused_before_anything_is_sent(hub, name, given, words):
    with pytest.raises(InvalidMetadataError, match=words):
        hub.push(name, Net(2, 1), builder=given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colour": "red"}, "num_classes"),
        ({"num_classes": -1}, "num_classes"),
        ("imagenet", "ResNet50_Weights"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_with_what_would(hub, name, given, words):
    with pytest.raises(InvalidMetadataError, match=words):
        hub.push(name, Net(2, 1), pretrained_cfg=given)
