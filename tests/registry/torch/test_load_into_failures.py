"""Loads that fail in the middle, or are refused for what could: the module is bit for bit as it was."""

import os
import signal

import pytest
import torch
from module_state import same_values, state_of
from small_nets import Net, Stateful
from torch import nn

from registry.errors import StateDictMismatchError, UnsupportedValueError
from registry.torch import load_into


class Hooked(nn.Module):
    """Its own code takes part in the load, and raises half-way when it is told to."""

    def __init__(self, how):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.notes = {"loads": 0}
        self.how = how
        self.armed = False
        self.second.register_load_state_dict_pre_hook(self.before)
        self.register_load_state_dict_post_hook(self.after)

    @staticmethod
    def before(module, state_dict, prefix, *_):
        del module
        if f"{prefix}kernel" in state_dict:
            state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}kernel")

    def after(self, module, _):
        # Only with values: the check tries the same code without.
        if not self.armed or module.first.weight.is_meta:
            return
        with torch.no_grad():
            module.scratch += 1
        module.notes["loads"] += 1
        module.first.bias.requires_grad_(requires_grad=False)
        module.how = "changed"
        module.extra = nn.Linear(1, 1)
        module.first.weight.data = torch.zeros(2, 2)
        raise self.armed


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), MemoryError()])
def test_code_of_the_module_that_raises_half_way_leaves_no_trace(hub, saved, error):
    module = Hooked("as made")
    path = saved(Hooked("as made"))
    before = state_of(module)
    module.armed = error
    expected = StateDictMismatchError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected):
        hub.load_into(path, module)
    module.armed = False
    assert state_of(module) == before
    assert hub.load_into(path, module).missing_keys == []


def test_extra_state_that_is_refused_leaves_no_trace(hub, saved):
    module = nn.Sequential(Stateful(), Stateful(refuses=True), Stateful())
    path = saved(nn.Sequential(Stateful(2.0), Stateful(3.0), Stateful(4.0)))
    before = state_of(module)
    with pytest.raises(StateDictMismatchError, match="half of it is enough"):
        hub.load_into(path, module)
    assert state_of(module) == before


def test_names_that_the_modules_own_code_moves_are_loaded_by_it(hub, saved):
    source, module = Hooked("a"), Hooked("b")
    state_dict = source.state_dict()
    state_dict["second.kernel"] = state_dict.pop("second.weight")
    result = hub.load_into(saved(state_dict), module)
    assert torch.equal(module.second.weight, source.second.weight)
    assert result.missing_keys == []
    assert "own code" in str(result)


class Stubborn(nn.Linear):
    """Says nothing of what it does not load."""

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        if not self.weight.is_meta:
            with torch.no_grad():
                self.bias.fill_(9)
            missing.append(f"{prefix}weight")
            return
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)


def test_code_that_does_something_else_than_in_the_check_is_undone(hub, saved):
    module = nn.Sequential(nn.Linear(2, 2), Stubborn(2, 2))
    before = state_of(module)
    with pytest.raises(StateDictMismatchError, match=r"'1\.weight' unfilled"):
        hub.load_into(saved(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))), module)
    assert state_of(module) == before


def test_a_copy_that_fails_half_way_leaves_no_trace(hub, saved, monkeypatch):
    module, path = Net(), saved(Net())
    before = state_of(module)
    copy, count = torch.Tensor.copy_, []

    def fail_at_the_eighth(self, *given, **options):
        count.append(self)
        if len(count) == 8:
            raise RuntimeError("the device is gone")
        return copy(self, *given, **options)

    monkeypatch.setattr(torch.Tensor, "copy_", fail_at_the_eighth)
    with pytest.raises(StateDictMismatchError, match="the device is gone"):
        hub.load_into(path, module)
    monkeypatch.undo()
    assert state_of(module) == before


def expanded():
    module = Net()
    module.layers[1].norm.weight = nn.Parameter(torch.ones(1).expand(4))
    return module


def made_in_inference_mode():
    module = Net()
    with torch.inference_mode():
        module.layers[1].norm.running_mean = torch.zeros(4)
    return module


@pytest.mark.parametrize("make", [expanded, made_in_inference_mode])
def test_a_tensor_that_cannot_be_written_is_named_before_any_other_is(hub, saved, make):
    module, source = make(), Net()
    before = state_of(module)
    with pytest.raises(UnsupportedValueError, match=r"layers\.1\.norm\."):
        hub.load_into(saved(source), module)
    assert state_of(module) == before
    hub.load_into(saved(source), module, assign=True)
    assert same_values(module, source.state_dict())


class Windows(nn.Module):
    """Two tensors that share a row."""

    def __init__(self):
        super().__init__()
        rows = torch.arange(9.0).reshape(3, 3)
        self.register_buffer("upper", rows[:2])
        self.register_buffer("lower", rows[1:])


def test_tensors_that_overlap_take_values_that_agree_and_no_others(hub, saved):
    module = Windows()
    before = state_of(module)
    with pytest.raises(StateDictMismatchError, match="upper would be lost"):
        hub.load_into(saved({"upper": torch.ones(2, 3), "lower": torch.zeros(2, 3)}), module)
    with pytest.raises(UnsupportedValueError, match="tear them apart"):
        hub.load_into(saved(Windows()), module, assign=True)
    assert state_of(module) == before
    hub.load_into(saved({"upper": torch.ones(2, 3), "lower": torch.ones(2, 3)}), module)
    assert module.lower.tolist() == torch.ones(2, 3).tolist()


class Reticent(Net):
    """Keeps torch's answer to itself and drops a name before, as encoders of segmentation_models_pytorch do."""

    def load_state_dict(self, state_dict, **options):
        state_dict.pop("classifier.weight", None)
        super().load_state_dict(state_dict, **options)


def test_a_module_that_keeps_torchs_answer_to_itself_is_loaded(hub, saved):
    source, module = Net(), Reticent()
    extended = {**source.state_dict(), "classifier.weight": torch.ones(3)}
    result = hub.load_into(saved(extended), module, strict=False, allow_unexpected=("classifier.*",))
    assert same_values(module, source.state_dict())
    assert result.missing_keys == []


def test_ctrl_c_waits_until_the_module_is_whole(hub, saved, monkeypatch):
    source, module = Net(), Net()
    path, copy, count = saved(source), torch.Tensor.copy_, []

    def interrupt_the_third(self, *given, **options):
        count.append(self)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return copy(self, *given, **options)

    monkeypatch.setattr(torch.Tensor, "copy_", interrupt_the_third)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is born deaf to it
    try:
        with pytest.raises(KeyboardInterrupt):
            hub.load_into(path, module)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(count) > 3
    assert same_values(module, source.state_dict())


@pytest.mark.parametrize(("assign", "said"), [(False, "filled in part"), (True, "nothing was changed")])
def test_a_large_module_is_not_kept_and_an_unforeseen_failure_says_how_it_is(hub, saved, monkeypatch, assign, said):
    monkeypatch.setattr(load_into, "KEPT_BYTES", 0)
    module, path = Net(), saved(Net())
    before = state_of(module)

    def refuse(_, name, value):
        if isinstance(value, nn.Parameter) and name == "weight":
            raise RuntimeError("the device is gone")

    monkeypatch.setattr(torch.Tensor, "copy_", lambda *_: refuse(None, "weight", module.fc.weight))
    monkeypatch.setattr(nn.BatchNorm2d, "__setattr__", refuse)
    with pytest.raises(StateDictMismatchError, match=said):
        hub.load_into(path, module, assign=assign)
    monkeypatch.undo()
    assert state_of(module) == before
