"""From one fine-tuning to the next through a real service: the recipe travels with the version."""

import copy
import hashlib

import pytest
import torch
import torchvision
from torch import nn

from registry.torch.freeze import freeze
from registry.torch.recipe import find_recipe
from weighbridge import Client, FineTune, InvalidMetadataError, InvalidRequestError, Recipe, apply_recipe


@pytest.fixture
def hub(live_server, tmp_path):
    with Client(live_server.url, cache_dir=tmp_path / "cache") as client:
        yield client


@pytest.fixture
def name(request):
    """A model of this test's own, on a server that tests share."""
    return "vision/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


def resnet(classes):
    return torchvision.models.resnet18(num_classes=classes)


class Net(nn.Module):
    def __init__(self, classes=9):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.1))
        self.head = nn.Linear(5, classes)

    def forward(self, values):
        return self.head(self.trunk(values))


def trains(module):
    return {name: each.requires_grad for name, each in module.named_parameters()}


def modes(module):
    module.train()
    module(torch.randn(3, 4))
    return {name: each.training for name, each in module.named_modules()}


def train(module, groups):
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
    for _ in range(3):
        module.train()
        module(torch.randn(6, 4)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "wrap", [copy.copy, copy.deepcopy, nn.DataParallel, lambda net: torch.compile(net, backend="eager")]
)
def test_what_was_frozen_here_is_frozen_there(hub, name, wrap, live_server, tmp_path):
    base = hub.push(name, Net())
    module = Net()
    tuned = hub.prepare_finetune(base.reference, module, num_classes=3, lr=0.1, freeze=True, dropout="eval")
    assert isinstance(tuned, FineTune)
    assert tuned.recipe.base == base.reference
    before = {key: value.clone() for key, value in module.trunk.state_dict().items()}
    train(module, tuned.param_groups)
    assert all(torch.equal(value, before[key]) for key, value in module.trunk.state_dict().items())

    pushed = hub.push(name, wrap(module), base=base.reference)

    with Client(live_server.url, cache_dir=tmp_path / "elsewhere") as theirs:
        version = theirs.show(pushed.reference)
        assert (
            version.recipe
            == tuned.recipe
            == Recipe(base=base.reference, head=["head"], frozen=["trunk.*"], dropout="eval")
        )
        other = Net(3)
        theirs.load_into(pushed.reference, other)
        apply_recipe(other, version)
    assert trains(other) == trains(module)
    assert modes(other) == modes(module)
    assert modes(other)["trunk.1"] is False
    assert find_recipe(other) == tuned.recipe


def test_the_head_that_the_version_records_is_the_one(hub, name):
    hub.push(name, resnet(9))
    module = resnet(9)
    tuned = hub.prepare_finetune(name, module, num_classes=3, freeze=True)
    assert tuned.recipe.base == f"{name}:1"
    assert tuned.frozen.trainable == ["fc.weight", "fc.bias"]
    with pytest.raises(InvalidRequestError, match="ResNet has no `classifier`; its head is `fc`"):
        hub.prepare_finetune(name, module, head="classifier", num_classes=3)


def test_what_is_recorded_is_what_is_frozen_at_the_push(hub, name):
    net = Net()
    assert hub.push(name, net).recipe is None
    freeze(net, "head")
    assert hub.push(name, net).recipe == Recipe(frozen=["trunk.*"])
    assert hub.push(name, net.state_dict()).recipe is None


def test_a_recipe_can_be_given_and_is_checked(hub, name):
    net = Net()
    freeze(net)
    version = hub.push(name, net, recipe={"frozen": ["trunk.*"], "head": ["head"]})
    assert version.recipe == Recipe(frozen=["trunk.*"], head=["head"])
    with pytest.raises(InvalidMetadataError, match="recipe"):
        hub.push(name, net, recipe={"frozzen": []})


def test_load_backbone_freezes_what_it_filled(hub, name):
    hub.push(name, Net().trunk)
    net = Net()
    hub.load_backbone(name, net, into="trunk", freeze=True)
    assert trains(net) == {
        "trunk.0.weight": False, "trunk.0.bias": False, "trunk.1.weight": False, "trunk.1.bias": False,
        "head.weight": True, "head.bias": True,
    }  # fmt: skip
    before = {key: value.clone() for key, value in net.state_dict().items()}
    train(net, net.parameters())
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"head.weight", "head.bias"}


def test_a_recipe_for_something_else_is_refused(hub, name):
    freeze(net := Net(), "head")
    version = hub.push(name, net)
    with pytest.raises(InvalidRequestError, match=r"matches no parameter.*of Linear"):
        apply_recipe(nn.Linear(2, 2), version)


def test_a_frozen_module_that_is_pushed_as_code_comes_back_frozen(hub, name):
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    freeze(net, "2")
    version = hub.push(name, net, as_code=True)
    assert version.recipe == Recipe(frozen=["0.*", "1.*"])
    back = hub.load_code(version.reference, trust_code=True)
    back.train()
    back(torch.randn(3, 4))
    assert [each.training for each in back] == [True, False, True]
