"""What is known of a module after loads, and what keeps it known."""

import copy
import io

import pytest
import torch
from torch import nn

from registry.torch.uninitialised import mark_uninitialised, uninitialised_names


def make_net():
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.ModuleDict({"trunk": trunk, "head": nn.Linear(4, 2)})


HEAD = {"head.weight", "head.bias"}


@pytest.fixture
def net():
    made = make_net()
    mark_uninitialised(made, HEAD)
    return made


def test_nothing_is_known_of_a_module_that_nobody_loaded_into():
    assert uninitialised_names(make_net()) == set()


def test_a_load_says_what_it_left(net):
    assert uninitialised_names(net) == HEAD
    assert uninitialised_names(net["head"]) == {"weight", "bias"}
    assert uninitialised_names(net["trunk"]) == set()


def test_it_survives_copying_pickling_and_wrapping(net):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    assert uninitialised_names(copy.deepcopy(net)) == HEAD
    assert uninitialised_names(torch.load(buffer, weights_only=False)) == HEAD
    assert uninitialised_names(nn.DataParallel(net)) == {f"module.{name}" for name in HEAD}


def test_it_is_in_no_state_dict(net):
    assert list(net.state_dict()) == list(make_net().state_dict())


def test_a_second_load_takes_nothing_back(net):
    mark_uninitialised(net, {"trunk.0.weight", "head.bias"})
    assert uninitialised_names(net) == {"head.bias"}


def test_a_load_into_a_part_changes_what_is_known_of_that_part(net):
    mark_uninitialised(net["head"], {"bias"})
    assert uninitialised_names(net) == {"head.bias"}


def test_what_stands_beside_a_part_that_was_loaded_is_uninitialised():
    net = make_net()
    mark_uninitialised(net["trunk"], set())
    assert uninitialised_names(net) == HEAD


def test_a_module_that_was_put_in_since_is_uninitialised(net):
    mark_uninitialised(net, set())
    net["head"] = nn.Linear(4, 2)
    assert uninitialised_names(net) == HEAD


def test_a_conversion_to_sync_batch_norm_keeps_what_was_known():
    net = make_net()
    mark_uninitialised(net, {"trunk.1.bias"})
    assert uninitialised_names(nn.SyncBatchNorm.convert_sync_batchnorm(net)) == {"trunk.1.bias"}


def test_a_tied_tensor_is_filled_when_one_of_its_names_is():
    net = nn.ModuleDict({"embed": nn.Embedding(5, 3), "out": nn.Linear(3, 5, bias=False)})
    net["out"].weight = net["embed"].weight
    mark_uninitialised(net, {"out.weight"})
    assert uninitialised_names(net) == set()


def test_names_without_a_tensor_are_kept(net):
    mark_uninitialised(other := make_net(), {"trunk._extra_state", "gone.away"})
    assert uninitialised_names(other) == {"trunk._extra_state", "gone.away"}
