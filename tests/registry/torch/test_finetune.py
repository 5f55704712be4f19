"""Preparing real architectures for fine-tuning: their heads, what is loaded, what trains, and the way back."""

import copy
import io

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel
from transformers import BertConfig, BertForSequenceClassification, BertModel

from registry.client.client import Client
from registry.errors import InvalidRequestError, StateDictMismatchError, UnsupportedValueError


@pytest.fixture
def hub(tmp_path):
    with Client(cache_dir=tmp_path / "cache", offline=True) as client:
        yield client


def tiny_bert(labels, kind=BertForSequenceClassification):
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=20, num_labels=labels,
    )  # fmt: skip
    return kind(config)


class TinyVGG(nn.Module):
    """VGG's shape of names at a size that is fast to make."""

    def __init__(self, num_classes=9):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, num_classes))
        self.num_classes = num_classes

    def forward(self, images):
        return self.classifier(self.features(images).mean((2, 3)))


class TwoHeads(nn.Module):
    def __init__(self, num_classes=9):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.BatchNorm1d(6))
        self.heads = nn.ModuleList(
            [nn.Linear(6, num_classes), nn.Sequential(nn.Linear(6, 4), nn.Linear(4, num_classes))]
        )

    def forward(self, values):
        return sum(head(self.trunk(values)) for head in self.heads)


def images():
    return torch.randn(4, 3, 32, 32)


def words():
    return torch.randint(50, (4, 8))


BUILDERS = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=9), ["fc"], images),
    "densenet121": (lambda: torchvision.models.densenet121(num_classes=9), ["classifier"], images),
    "squeezenet": (lambda: torchvision.models.squeezenet1_1(num_classes=9), ["classifier.1"], images),
    "vgg": (TinyVGG, ["classifier.3"], images),
    "googlenet": (
        lambda: torchvision.models.googlenet(num_classes=9, aux_logits=True, init_weights=False),
        ["aux1.fc2", "aux2.fc2", "fc"],
        None,
    ),
    "inception": (
        lambda: torchvision.models.inception_v3(num_classes=9, init_weights=False),
        ["AuxLogits.fc", "fc"],
        None,
    ),
    "timm resnet": (lambda: timm.create_model("test_resnet", num_classes=9), ["fc"], images),
    "timm vit": (lambda: timm.create_model("test_vit", num_classes=9, img_size=32), ["head"], images),
    "timm convnext": (lambda: timm.create_model("test_convnext", num_classes=9), ["head.fc"], images),
    "timm deit": (
        lambda: timm.create_model("deit_tiny_distilled_patch16_224", num_classes=9, img_size=32, depth=1),
        ["head", "head_dist"],
        images,
    ),
    "bert": (lambda: tiny_bert(9), ["classifier"], words),
}


@pytest.fixture
def weights(tmp_path):
    """Return a function that saves a module's state_dict and returns the path."""

    def save(module):
        path = tmp_path / "weights.pt"
        torch.save(module.state_dict(), path)
        return path

    return save


def everything(module):
    """Return what a module is: its parts by identity, values, modes, what trains, and what it says of itself."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    parts = [(name, id(each), each.training) for name, each in module.named_modules()]
    said = [
        {name: value for name, value in vars(each).items() if isinstance(value, int | float | str | bool)}
        for each in module.modules()
    ]
    values = {name: (id(each), each.requires_grad, each.detach().clone()) for name, each in tensors.items()}
    return parts, said, values


def same(one, other):
    if one[:2] != other[:2] or one[2].keys() != other[2].keys():
        return False
    return all(
        mine[:2] == theirs[:2] and torch.equal(mine[2], theirs[2])
        for mine, theirs in zip(one[2].values(), other[2].values(), strict=True)
    )


def check_groups(tuned, module):
    """Every parameter that trains is in one group, once; nothing else is."""
    grouped = [id(each) for group in tuned.param_groups for each in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(each) for each in module.parameters() if each.requires_grad}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_head_is_found_and_replaced_and_the_rest_is_filled(hub, weights, name):
    build, heads, batch = BUILDERS[name]
    torch.manual_seed(0)
    source, module = build(), build()
    tuned = hub.prepare_finetune(
        weights(source), module, num_classes=7, lr={"backbone": 1e-4, "head": 1e-3}, freeze=True
    )

    assert sorted(tuned.recipe.head) == heads
    below = tuple(f"{head}." for head in heads)
    pretrained = source.state_dict()
    for key, value in module.state_dict().items():
        assert key.startswith(below) or torch.equal(value, pretrained[key]), key
    assert {key for key, each in module.named_parameters() if each.requires_grad} == {
        key for key, _ in module.named_parameters() if key.startswith(below)
    }
    assert [group["name"] for group in tuned.param_groups] == ["head"]
    check_groups(tuned, module)
    if batch is not None:
        out = module.train()(batch())
        logits = getattr(out, "logits", out)
        for each in logits if isinstance(logits, tuple) else [logits]:
            assert each.shape == (4, 7)
    assert getattr(module, "num_classes", 7) == 7
    assert getattr(module, "num_labels", 7) == 7
    assert getattr(getattr(module, "config", None), "num_labels", 7) == 7


def test_two_learning_rates_and_what_is_printed(hub, weights):
    module = TinyVGG()
    path = weights(module)
    tuned = hub.prepare_finetune(path, module, num_classes=7, lr={"backbone": 1e-4, "head": 1e-3}, weight_decay=0.05)
    assert [{key: each for key, each in group.items() if key != "params"} for group in tuned.param_groups] == [
        {"name": "backbone", "lr": 1e-4, "weight_decay": 0.05},
        {"name": "head", "lr": 1e-3, "weight_decay": 0.05},
    ]
    check_groups(tuned, module)
    assert tuned.module is module
    assert tuned.report.coverage < 1
    assert module.num_classes == 7
    torch.optim.AdamW(tuned.param_groups)
    assert str(tuned).splitlines()[-3:] == [
        "head       classifier.3",
        "group      backbone: 6 parameters, 160 numbers, lr 0.0001, weight_decay 0.05",
        "group      head: 2 parameters, 63 numbers, lr 0.001, weight_decay 0.05",
    ]


def test_one_learning_rate_or_the_optimizer_s_own(hub, weights):
    module = TinyVGG()
    path = weights(module)
    assert [group["lr"] for group in hub.prepare_finetune(path, module, lr=0.5).param_groups] == [0.5, 0.5]
    assert [set(group) for group in hub.prepare_finetune(path, module).param_groups] == [{"name", "params"}] * 2


def test_without_a_number_of_classes_the_present_head_stays(hub, weights):
    source, module = TinyVGG(9), TinyVGG(5)
    mine = module.classifier[3]
    tuned = hub.prepare_finetune(weights(source), module, freeze=True)
    assert module.classifier[3] is mine
    assert tuned.frozen.trainable == ["classifier.3.weight", "classifier.3.bias"]
    filled = TinyVGG(9)
    tuned = hub.prepare_finetune(weights(source), filled, freeze=True)
    assert torch.equal(filled.classifier[3].weight, source.classifier[3].weight)
    assert tuned.frozen.trainable == ["classifier.3.weight", "classifier.3.bias"]


def test_a_new_head_of_the_same_size_is_new(hub, weights):
    source, module = TinyVGG(9), TinyVGG(9)
    tuned = hub.prepare_finetune(weights(source), module, num_classes=9, freeze=True)
    assert not torch.equal(module.classifier[3].weight, source.classifier[3].weight)
    assert torch.equal(module.classifier[0].weight, source.classifier[0].weight)
    assert tuned.frozen.trainable == ["classifier.3.weight", "classifier.3.bias"]


@pytest.mark.parametrize(
    ("head", "says"),
    [("fc", r"TinyVGG has no `fc`; its head is `classifier\.3`\."), ("features.2", "is a ReLU without a layer")],
)
def test_a_head_that_is_none_is_refused_with_the_right_one(hub, weights, head, says):
    module = TinyVGG()
    path = weights(TinyVGG())
    before = everything(module)
    with pytest.raises(InvalidRequestError, match=says):
        hub.prepare_finetune(path, module, head=head, num_classes=7)
    assert same(everything(module), before)


def test_a_head_may_be_named_by_what_holds_it(hub, weights):
    module = TinyVGG()
    tuned = hub.prepare_finetune(weights(TinyVGG()), module, head="classifier", num_classes=7)
    assert tuned.recipe.head == ["classifier.3"]
    assert [each.out_features for each in module.classifier if isinstance(each, nn.Linear)] == [8, 7]


def test_every_member_of_a_list_of_heads_is_replaced(hub, weights):
    source, module = TwoHeads(), TwoHeads()
    tuned = hub.prepare_finetune(weights(source), module, head="heads", num_classes=7, freeze=True)
    assert tuned.recipe.head == ["heads.0", "heads.1.1"]
    assert module(torch.ones(2, 5)).shape == (2, 7)
    assert torch.equal(module.heads[1][0].weight, source.heads[1][0].weight)


FAILURES = {
    "no such base": ({}, lambda: nn.Linear(3, 3).state_dict(), StateDictMismatchError),
    "a glob that matches nothing": ({"freeze": ("layer9.*",)}, None, InvalidRequestError),
    "rows that do not exist": ({"rows": {"classifier.0.weight": [(0, 100)]}}, None, InvalidRequestError),
    "a deeper source": (
        {},
        lambda: {**TinyVGG().state_dict(), "features.3.weight": torch.ones(4, 4, 3, 3)},
        StateDictMismatchError,
    ),
    "a learning rate of nothing": ({"lr": {"trunk": 1}}, None, InvalidRequestError),
    "a learning rate that is missing": ({"lr": {"head": 1}}, None, InvalidRequestError),
    "no classes": ({"num_classes": 0}, None, InvalidRequestError),
    "a mode of nothing": ({"batch_norm": "off"}, None, InvalidRequestError),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_fails_leaves_the_module_as_it_was(hub, tmp_path, case):
    options, state_dict, error = FAILURES[case]
    torch.save((state_dict or TinyVGG().state_dict)(), tmp_path / "weights.pt")
    module = TinyVGG()
    before = everything(module)
    with pytest.raises(error):
        hub.prepare_finetune(tmp_path / "weights.pt", module, **{"num_classes": 7, **options})
    assert same(everything(module), before)


def test_a_timm_module_that_cannot_be_filled_is_as_it_was(hub, weights):
    module = timm.create_model("test_vit", num_classes=9, img_size=32)
    before = everything(module)
    with pytest.raises(StateDictMismatchError):
        hub.prepare_finetune(weights(timm.create_model("test_resnet", num_classes=9)), module, num_classes=7)
    assert same(everything(module), before)


def test_a_layer_that_nobody_can_make_again_is_refused(hub, weights):
    class Odd(nn.Linear):
        def __init__(self, secret):
            super().__init__(6, secret)

    module = nn.ModuleDict({"trunk": nn.Linear(5, 6), "out": Odd(9)})
    before = everything(module)
    with pytest.raises(UnsupportedValueError, match="Put your own layer there"):
        hub.prepare_finetune(weights(module), module, num_classes=7)
    assert same(everything(module), before)


def test_a_backbone_inside_a_net_has_what_is_new_in_the_group_of_the_head(hub, weights):
    net = nn.ModuleDict({"bert": tiny_bert(2, BertModel), "decoder": nn.Linear(16, 8), "out": nn.Linear(8, 3)})
    tuned = hub.prepare_finetune(weights(tiny_bert(2, BertModel)), net, into="bert", freeze=True, lr={"head": 0.1})
    assert tuned.frozen.trainable == ["decoder.weight", "decoder.bias", "out.weight", "out.bias"]
    assert tuned.recipe.head == ["out", "decoder"]
    assert tuned.recipe.frozen == ["bert.*"]


def test_globs_say_what_is_frozen(hub, weights):
    module = torchvision.models.resnet18(num_classes=9)
    path = weights(module)
    tuned = hub.prepare_finetune(path, module, num_classes=7, freeze=("conv1", "bn1", "layer[12].*"), lr=0.1)
    assert tuned.recipe.frozen == ["conv1.*", "bn1.*", "layer1.*", "layer2.*"]
    assert [group["name"] for group in tuned.param_groups] == ["backbone", "head"]
    check_groups(tuned, module)


def test_frozen_rows_get_a_group_without_weight_decay_and_stay(hub, weights):
    module = tiny_bert(3)
    name = "bert.embeddings.word_embeddings.weight"
    tuned = hub.prepare_finetune(
        weights(tiny_bert(3)), module, num_classes=4, rows={name: [(0, 40)]}, weight_decay=0.1, lr=0.1, freeze=True
    )
    assert [group["name"] for group in tuned.param_groups] == ["backbone.rows", "head"]
    assert [group["weight_decay"] for group in tuned.param_groups] == [0.0, 0.1]
    table = module.get_parameter(name)
    before = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.AdamW(tuned.param_groups)
    for _ in range(3):
        module.train()
        module(words()).logits.square().sum().backward()
        optimizer.step()
    moved = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {name, "classifier.weight", "classifier.bias"}
    assert torch.equal(table[:40], before[name][:40])


def test_a_tied_parameter_is_in_one_group(hub, weights):
    def tied():
        net = nn.ModuleDict({"embed": nn.Embedding(9, 4), "trunk": nn.Linear(4, 4), "out": nn.Linear(4, 9, bias=False)})
        net["out"].weight = net["embed"].weight
        return net

    module = tied()
    tuned = hub.prepare_finetune(weights(tied()), module, lr=0.1)
    check_groups(tuned, module)
    assert sum(len(group["params"]) for group in tuned.param_groups) == 3


def test_a_prepared_module_trains_and_its_backbone_stays_bit_for_bit(hub, weights):
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=9)
    tuned = hub.prepare_finetune(
        weights(torchvision.models.resnet18(num_classes=9)), module, num_classes=7, freeze=True
    )
    before = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        module.train()
        module(images()).square().sum().backward()
        optimizer.step()
    moved = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"fc.weight", "fc.bias"}
    assert len(tuned.frozen.in_eval) == 20


def averaged(net):
    wrapped = AveragedModel(net, use_buffers=True)
    wrapped.update_parameters(net)
    return wrapped


def through_torch_save(net):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize(
    "way", [lambda net: net, copy.deepcopy, averaged, through_torch_save, nn.SyncBatchNorm.convert_sync_batchnorm]
)
def test_a_loaded_and_frozen_backbone_stays_bit_for_bit_and_the_head_moves(hub, weights, way):
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3)
    hub.load_backbone(weights(timm.create_model("test_resnet", num_classes=9)), net, freeze=True)
    net = way(net)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        net.train()
        net(images()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {
        key.removeprefix("module.") for key, value in net.state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved == {"fc.weight", "fc.bias"}
