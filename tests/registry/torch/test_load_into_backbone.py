"""Backbones: the trunk is used whole, or nothing is loaded."""

import copy

import pytest
import torch
from module_state import bits_of, state_of
from small_nets import Net, Tied
from torch import nn

from registry.errors import AmbiguousPrefixError, InvalidRequestError, StateDictMismatchError
from registry.state_dict import EmaPartWarning


class Detector(nn.Module):
    """A user's network around somebody's trunk."""

    def __init__(self, encoder=None):
        super().__init__()
        self.encoder = encoder or Net()
        self.neck = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.boxes = nn.Linear(5, 4)

    def forward(self, images):
        return self.boxes(self.encoder(images))


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = Net(), Net()


def test_a_new_head_stays_and_is_named(hub, saved):
    source, module = Net(classes=7), Net()
    head = module.fc.weight.detach().clone()
    result = hub.load_backbone(saved(source), module)
    assert torch.equal(module.layers[2].conv.weight, source.layers[2].conv.weight)
    assert torch.equal(module.fc.weight, head)
    assert result.missing_keys == ["fc.weight", "fc.bias"]
    assert result.unexpected_keys == ["fc.weight", "fc.bias"]
    assert "stayed     2: fc.weight, fc.bias" in str(result)


@pytest.mark.parametrize("into", ["", "encoder"])
def test_a_trunk_is_found_or_named_inside_of_a_network(hub, saved, into):
    source, module = Net(), Detector()
    before = copy.deepcopy(module.neck.state_dict())
    result = hub.load_backbone(saved(source), module, into=into)
    assert torch.equal(module.encoder.fc.weight, source.fc.weight)
    assert all(torch.equal(value, before[name]) for name, value in module.neck.state_dict().items())
    outside = [name for name in module.state_dict() if not name.startswith("encoder.")]
    assert result.missing_keys == ([] if into else outside)


def test_a_submodule_that_is_not_there_names_near_ones(hub, saved):
    module = Detector()
    before = state_of(module)
    with pytest.raises(InvalidRequestError, match=r"no submodule 'encodr'\. There is: encoder"):
        hub.load_backbone(saved(Net()), module, into="encodr")
    assert state_of(module) == before


def wrapped(prefix, module):
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


def with_average(module):
    """A state_dict beside its moving average, as one."""
    return {**wrapped("model.", module), **wrapped("model_ema.", Net())}


WILD = {
    "names of another wrapper": (lambda: {f"{name}.w": v for name, v in Net().state_dict().items()}, Net),
    "another family": (lambda: nn.LSTM(4, 4, num_layers=2), Net),
    "a deeper source": (lambda: Net(depth=5), Net),
    "a deeper source, wrapped": (lambda: wrapped("module.", Net(depth=5)), Detector),
    "a deeper target": (lambda: Net(depth=2), Detector),
    "a part of a trunk": (lambda: {k: v for k, v in Net().state_dict().items() if "stem" not in k}, Net),
    "a trunk without its statistics": (
        lambda: {k: v for k, v in Net().state_dict().items() if "running" not in k},
        Net,
    ),
    "tied weights of another net": (Tied, Net),
    "nothing": (lambda: {"step": torch.ones(())}, Net),
}


@pytest.mark.parametrize("what", WILD)
def test_a_backbone_that_is_none_changes_nothing(hub, saved, what):
    make_source, make_target = WILD[what]
    module = make_target()
    before = state_of(module)
    path = saved(make_source())
    with pytest.raises(StateDictMismatchError, match="nothing was changed"):
        hub.load_backbone(path, module, freeze=True)
    assert state_of(module) == before


@pytest.mark.parametrize(
    ("make_source", "make_target"),
    [(Twins, Net), (Net, Twins), (lambda: with_average(Net()), Net), (lambda: with_average(Net()), Detector)],
)
def test_one_of_several_twins_is_never_chosen_silently(hub, saved, make_source, make_target):
    module = make_target()
    before = state_of(module)
    path = saved(make_source())
    with pytest.raises(AmbiguousPrefixError) as raised:
        hub.load_backbone(path, module)
    assert state_of(module) == before
    first = raised.value.extra["candidates"][0]
    hub.load_backbone(path, module, prefix=(first["strip"], first["add"]), allow_unexpected="*")


def test_the_copy_in_a_checkpoint_is_not_the_average(hub, saved):
    source, module = Net(), Net()
    hub.load_backbone(saved({"state_dict_ema": Net().state_dict(), "state_dict": source.state_dict()}), module)
    assert torch.equal(module.fc.weight, source.fc.weight)
    average = Net()
    path = saved({"state_dict_ema": average.state_dict(), "state_dict": source.state_dict()})
    hub.load_backbone(path, module, part="state_dict_ema")
    assert torch.equal(module.fc.weight, average.fc.weight)


def test_the_only_weights_of_a_checkpoint_are_used_though_they_are_an_average_and_that_is_said(hub, saved):
    source, module = Net(), Net()
    with pytest.warns(EmaPartWarning, match="moving average") as warned:
        result = hub.load_into(saved({"state_dict_ema": source.state_dict()}), module)
    assert {str(each.message) for each in warned} == {
        "The only weights are the moving average 'state_dict_ema'; say `part='state_dict_ema'`."
    }
    assert torch.equal(module.fc.weight, source.fc.weight)
    assert "state_dict_ema" in str(result.report)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrapped_modules_are_filled_and_frozen_inside(hub, saved, wrap):
    source, module = Net(), Net()
    hub.load_backbone(saved(source), wrap(module), freeze=True)
    assert torch.equal(module.fc.weight, source.fc.weight)
    assert [name for name, each in module.named_parameters() if each.requires_grad] == ["fc.weight", "fc.bias"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("scripted", [True, False])
def test_averaged_and_scripted_modules_are_filled(hub, saved, scripted):
    source, module = Net(), Net()
    if scripted:
        module = torch.jit.trace(module.eval(), torch.ones(1, 3, 8, 8))
        hub.load_into(saved(source), module)
    else:
        module = torch.optim.swa_utils.AveragedModel(module)
        assert hub.load_backbone(saved(source), module).missing_keys == ["n_averaged"]
    assert {bits_of(each) for each in module.parameters()} == {bits_of(each) for each in source.parameters()}


def trained(module, images):
    """Three steps of AdamW over what trains."""
    optimizer = torch.optim.AdamW([each for each in module.parameters() if each.requires_grad], lr=0.1)
    module.train()
    for _ in range(3):
        optimizer.zero_grad()
        module(images).square().sum().backward()
        optimizer.step()
    return module.state_dict()


@pytest.mark.parametrize(
    ("make_target", "into", "moves"),
    [
        (lambda: Net(classes=3), "", {"fc.weight", "fc.bias"}),
        (Net, "", {"fc.weight", "fc.bias"}),
        (Detector, "", {"boxes.weight", "boxes.bias"}),
        (Detector, "encoder", {"boxes.weight", "boxes.bias"}),
    ],
)
def test_a_frozen_backbone_does_not_move_and_the_head_does(hub, saved, make_target, into, moves):
    module, images = make_target(), torch.randn(4, 3, 8, 8)
    result = hub.load_backbone(saved(Net()), module, into=into, freeze=True)
    filled = {f"{into}.{name}" if into else name for name in result.loaded} - moves
    before = {name: value.clone() for name, value in module.state_dict().items()}
    after = trained(module, images)
    assert all(torch.equal(before[name], after[name]) for name in filled)
    assert all(not torch.equal(before[name], after[name]) for name in moves)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_what_cannot_be_frozen_is_said_before_the_load(hub, saved):
    module = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)))
    before = state_of(module)
    with pytest.raises(InvalidRequestError, match="TorchScript"):
        hub.load_backbone(saved(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))), module, freeze=True)
    assert state_of(module)["tensors"] == before["tensors"]


def test_a_second_backbone_leaves_the_first_initialised(hub, saved):
    from registry.torch.uninitialised import uninitialised_names

    module = Twins()
    hub.load_backbone(saved(Net()), module, into="left")
    hub.load_backbone(saved(Net(classes=9)), module, into="right")
    assert uninitialised_names(module) == {"right.fc.weight", "right.fc.bias"}
