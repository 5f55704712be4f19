"""Modules without memory: the loaded tensors take the place of their own."""

import copy

import pytest
import torch
from module_state import state_of
from small_nets import Net, Tied
from torch import nn

from registry.errors import InvalidRequestError, StateDictMismatchError
from registry.torch.architecture import architecture_of


def on_meta(make):
    with torch.device("meta"):
        return make()


class Rotary(nn.Module):
    """Has a table that no state_dict holds."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("table", torch.arange(4.0), persistent=False)


def test_a_module_on_the_meta_device_gets_the_loaded_tensors(hub, saved):
    source, module = Net(), on_meta(Net)
    module.stem.bias.requires_grad_(requires_grad=False)
    hub.load_into(saved(source), module, assign=True)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in module.state_dict().items())
    assert all(isinstance(each, nn.Parameter) for each in module.parameters())
    assert [name for name, each in module.named_parameters() if not each.requires_grad] == ["stem.bias"]
    module(torch.ones(1, 3, 8, 8)).sum().backward()


def test_training_on_assigned_tensors_leaves_the_file_as_it_is(hub, saved):
    path, module = saved(Net()), on_meta(Net)
    hub.load_into(path, module, assign=True)
    before = copy.deepcopy(hub.pull(path)["fc.weight"])
    with torch.no_grad():
        module.fc.weight += 1
    assert torch.equal(hub.pull(path)["fc.weight"], before)


@pytest.mark.parametrize("part", ["", "layers"])
def test_without_assign_a_module_on_meta_is_told_so(hub, saved, part):
    path, module = saved(Net()), Net()
    module.get_submodule(part).to("meta")
    before = state_of(module)
    with pytest.raises(InvalidRequestError, match="assign=True"):
        hub.load_into(path, module)
    assert state_of(module) == before


def test_ties_are_ties_again(hub, saved):
    source, module = Tied(), on_meta(Tied)
    hub.load_into(saved(source), module, assign=True)
    assert module.head.weight is module.embed.weight
    assert torch.equal(module.head.weight, source.embed.weight)
    untied = {name: value.clone() for name, value in source.state_dict().items()}
    again = on_meta(Tied)
    hub.load_into(saved(untied), again, assign=True)
    assert again.head.weight is again.embed.weight
    del untied["head.weight"]
    hub.load_into(saved(untied), on_meta(Tied), assign=True)


def test_what_is_tied_in_the_source_only_is_apart_in_the_module(hub, saved):
    module = on_meta(Tied)
    module.head.weight = nn.Parameter(torch.empty(6, 3, device="meta"))
    hub.load_into(saved(Tied()), module, assign=True)
    with torch.no_grad():
        module.head.weight += 1
    assert not torch.equal(module.head.weight, module.embed.weight)


def test_buffers_that_no_state_dict_holds_are_named(hub, saved):
    path, module = saved(Rotary()), on_meta(Rotary)
    before = state_of(module)
    with pytest.raises(StateDictMismatchError, match="table would stay on the meta device"):
        hub.load_into(path, module, assign=True)
    assert state_of(module) == before
    module.table = torch.arange(4.0)
    hub.load_into(path, module, assign=True)


def test_a_head_that_would_stay_on_meta_is_named(hub, saved):
    path, module = saved(Net(classes=7)), on_meta(Net)
    with pytest.raises(StateDictMismatchError, match=r"fc\.weight, fc\.bias would stay on the meta device"):
        hub.load_backbone(path, module, assign=True)
    module.fc = nn.Linear(4, 5)
    result = hub.load_backbone(path, module, assign=True)
    assert result.missing_keys == ["fc.weight", "fc.bias"]


def test_tensors_become_what_the_module_has_or_what_is_asked_for(hub, saved):
    path = saved(Net().double())
    plain, half = on_meta(Net), on_meta(Net)
    hub.load_into(path, plain, assign=True)
    assert {each.dtype for each in plain.parameters()} == {torch.float32}
    result = hub.load_into(path, half, assign=True, dtype="bfloat16", device="cpu")
    assert {each.dtype for each in half.parameters()} == {torch.bfloat16}
    assert half.layers[0].norm.num_batches_tracked.dtype == torch.int64
    assert {(each.target_dtype, each.effect) for each in result.report.casts} == {("bfloat16", "rounding")}


@pytest.mark.parametrize("versioned", [True, False])
def test_counters_that_were_never_saved_start_at_zero(hub, saved, versioned):
    state_dict, module = Net().state_dict(), on_meta(Net)
    for name in [name for name in state_dict if name.endswith("num_batches_tracked")]:
        del state_dict[name]
    allowed = "*num_batches_tracked" if versioned else ()
    hub.load_into(saved(state_dict if versioned else dict(state_dict)), module, assign=True, allow_missing=allowed)
    assert module.layers[0].norm.num_batches_tracked.item() == 0
    assert architecture_of(module).parameter_count == architecture_of(Net()).parameter_count


def test_a_recurrent_network_computes_with_what_was_assigned(hub, saved):
    source, module = nn.LSTM(2, 3), on_meta(lambda: nn.LSTM(2, 3))
    hub.load_into(saved(source), module, assign=True)
    assert torch.equal(module(torch.ones(1, 2))[0], source(torch.ones(1, 2))[0])


def test_a_failure_while_assigning_puts_the_old_tensors_back(hub, saved):
    module = nn.Sequential(on_meta(lambda: nn.LSTM(2, 3)), nn.Linear(3, 3))
    path = saved(nn.Sequential(nn.LSTM(2, 3), nn.Linear(3, 3)))
    before, flat = state_of(module), list(module[0]._flat_weights)

    def refuse(part, _):
        if not part.weight.is_meta:
            raise ValueError("never")

    module[1].register_load_state_dict_post_hook(refuse)
    hooked = state_of(module)
    with pytest.raises(StateDictMismatchError, match="never"):
        hub.load_into(path, module, assign=True)
    assert state_of(module) == hooked
    assert hooked["tensors"] == before["tensors"]
    assert all(one is other for one, other in zip(module[0]._flat_weights, flat, strict=True))


def test_an_expanded_source_gets_memory_of_its_own(hub, saved):
    module = on_meta(lambda: nn.Linear(3, 3))
    hub.load_into(saved({"weight": torch.ones(1).expand(3, 3), "bias": torch.ones(3)}), module, assign=True)
    with torch.no_grad():
        module.weight[0, 0] = 5
    assert module.weight.sum().item() == 13
