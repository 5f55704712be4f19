"""Torch's own load rules: what the report says of each is what torch does, with values."""

import copy
import warnings
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations

from registry.compat.compare import compare
from registry.torch.architecture import architecture_of, architecture_of_state_dict
from registry.torch.check import check_module

NORMS = ("weight", "bias", "running_mean", "running_var")


def report_on(state_dict, module):
    return compare(architecture_of_state_dict(state_dict), architecture_of(module))


def loads_strictly(state_dict, module):
    try:
        copy.deepcopy(module).load_state_dict(state_dict)
    except RuntimeError:
        return False
    return True


def without(state_dict, *suffixes):
    kept = OrderedDict((name, value) for name, value in state_dict.items() if not name.endswith(suffixes))
    if hasattr(state_dict, "_metadata"):
        kept._metadata = state_dict._metadata
    return kept


def norm_net():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_a_plain_state_dict_without_counters_loads_and_torch_fills_them():
    module = norm_net()
    state_dict = OrderedDict(without(module.state_dict(), "num_batches_tracked"))
    report = report_on(state_dict, module)
    assert (report.verdict, report.needs, report.counters) == ("exact", [], ["1.num_batches_tracked"])
    assert report.loads
    assert loads_strictly(state_dict, module)


@pytest.mark.parametrize(("version", "loads"), [(None, True), (1, True), (2, False)])
def test_counters_are_filled_by_the_version_in_the_metadata(version, loads):
    module = norm_net()
    state_dict = without(module.state_dict(), "num_batches_tracked")
    state_dict._metadata["1"] = {} if version is None else {"version": version}
    report = report_on(state_dict, module)
    assert loads_strictly(state_dict, module) is loads
    assert report.loads is loads
    assert report.needs == ([] if loads else ["fill_counters"])
    assert report.missing == ([] if loads else ["1.num_batches_tracked"])


def test_the_version_is_read_under_the_renamed_module():
    module = norm_net()
    inner = without(module.state_dict(), "num_batches_tracked")
    state_dict = OrderedDict((f"module.{name}", value) for name, value in inner.items())
    state_dict._metadata = {f"module.{name}".strip("."): values for name, values in inner._metadata.items()}
    report = report_on(state_dict, module)
    assert report.needs == ["rename", "fill_counters"]
    renamed = report.renames.renamed(state_dict)
    assert renamed._metadata["1"] == {"version": 2}
    assert not loads_strictly(renamed, module)


@pytest.mark.parametrize(("length", "loads"), [(1, True), (3, False)])
def test_a_vector_of_one_loads_into_a_scalar(length, loads):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.other = nn.Parameter(torch.zeros(2))
            self.scale = nn.Parameter(torch.zeros(()))

    state_dict = {"other": torch.ones(2), "scale": torch.arange(1.0, length + 1)}
    report = report_on(state_dict, Scale())
    assert report.loads is loads_strictly(state_dict, Scale()) is loads
    assert (report.verdict == "exact") is loads


def test_the_old_names_of_weight_norm_are_taken_by_the_new_one():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2))
    new = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2))
    state_dict = old.state_dict()
    report = report_on(state_dict, new)
    assert (report.verdict, report.missing, report.unexpected) == ("exact", [], [])
    assert report.matched["0.parametrizations.weight.original0"] == "0.weight_g"
    new.load_state_dict(state_dict)
    assert torch.equal(new.state_dict()["0.parametrizations.weight.original1"], state_dict["0.weight_v"])
    half = without(state_dict, "weight_g")
    assert not report_on(half, new).loads
    assert not loads_strictly(half, new)


@pytest.mark.parametrize("direction", ["into frozen", "from frozen"])
def test_frozen_batch_norm_drops_counters_and_batch_norm_fills_them(direction):
    live, frozen = nn.Sequential(nn.BatchNorm2d(4)), nn.Sequential(torchvision.ops.FrozenBatchNorm2d(4))
    source, target = (live, frozen) if direction == "into frozen" else (frozen, live)
    report = report_on(source.state_dict(), target)
    assert (report.verdict, report.needs, report.loads) == ("exact", [], True)
    assert loads_strictly(source.state_dict(), target)
    assert report.dropped == (["0.num_batches_tracked"] if direction == "into frozen" else [])
    assert report.counters == ([] if direction == "into frozen" else ["0.num_batches_tracked"])


def test_a_frozen_batch_norm_is_known_by_its_version_where_roles_are_not():
    live, frozen = nn.Sequential(nn.BatchNorm2d(4)), nn.Sequential(torchvision.ops.FrozenBatchNorm2d(4))
    target = architecture_of_state_dict(frozen.state_dict())
    assert compare(architecture_of(live), target).dropped == ["0.num_batches_tracked"]
    untracked = architecture_of_state_dict(
        without(nn.Sequential(nn.BatchNorm2d(4)).state_dict(), "num_batches_tracked")
    )
    assert compare(architecture_of(live), untracked).dropped == []


def test_a_normalisation_without_statistics_is_another_trunk():
    batch = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    group = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
    report = report_on(batch.state_dict(), group)
    assert (report.verdict, report.reasons) == ("partial", ["other_trunk"])
    assert not report_on(group.state_dict(), batch).loads


def test_extra_state_is_missing_where_torch_misses_it():
    class Scaled(nn.Linear):
        def get_extra_state(self):
            return {"scale": 2}

        def set_extra_state(self, state):
            self.scale = state["scale"]

    plain, scaled = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(Scaled(2, 3))
    report = report_on(plain.state_dict(), scaled)
    assert report.missing == scaled.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert report.reasons == ["missing_entries"]
    assert [each.name for each in report_on(scaled.state_dict(), plain).unexpected] == ["0._extra_state"]
    assert report_on(scaled.state_dict(), scaled).verdict == "exact"
    wrapped = OrderedDict((f"module.{name}", value) for name, value in scaled.state_dict().items())
    assert report_on(wrapped, scaled).verdict == "exact"


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.inner = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_a_missing_name_whose_storage_is_filled_is_tied_and_present():
    module = Tied()
    report = report_on(without(module.state_dict(), "head.weight"), module)
    assert (report.verdict, report.missing, report.tied, report.coverage) == ("exact", [], ["head.weight"], 1.0)


def test_two_values_for_one_tied_storage_are_a_conflict_that_torch_loads_in_silence():
    module = Tied()
    state_dict = module.state_dict()
    state_dict["head.weight"] = torch.zeros(5, 3)
    report = report_on(state_dict, module)
    assert (report.verdict, report.reasons, report.loads) == ("partial", ["tied_conflict"], False)
    assert report.conflicts[0].target_names == ("embed.weight", "head.weight")
    module.load_state_dict(state_dict)
    assert torch.equal(module.embed.weight, torch.zeros(5, 3))


@pytest.mark.parametrize(("version", "verdict"), [(2, "exact"), (None, "incompatible")])
def test_load_code_that_raises_has_the_last_word_and_is_named(version, verdict):
    with torch.device("meta"):
        module = torchvision.models.mnasnet0_5()
    state_dict = OrderedDict(module.state_dict())
    if version is not None:
        state_dict._metadata = module.state_dict()._metadata
    report = check_module(architecture_of_state_dict(state_dict), module)
    assert report.verdict == verdict
    if version is None:
        assert report.reasons == ["load_hook"]
        assert report.hooks == ["MNASNet._load_from_state_dict (the module itself)"]
        assert "version should be set to 1 or 2" in str(report)
        with pytest.raises(ValueError, match="version should be set"):
            module.load_state_dict(state_dict, strict=False)


def test_load_code_that_rebuilds_the_module_is_compared_with_what_it_becomes():
    with torch.device("meta"):
        module = torchvision.models.mnasnet0_5()
        old = torchvision.models.mnasnet0_5()
    state_dict = old.state_dict()
    state_dict._metadata[""] = {"version": 1}
    for name in [each for each in state_dict if each.startswith("layers.")][:30]:
        shape = [32 if size == 16 else size for size in state_dict[name].shape]
        state_dict[name] = torch.empty(shape, device="meta")
    report = check_module(architecture_of_state_dict(state_dict), module)
    assert any("rebuilds" in each for each in report.notices)
    assert report.hooks == ["MNASNet._load_from_state_dict (the module itself)"]
    # The module that was asked about is as it was.
    assert module.layers[0].weight.shape == torchvision.models.mnasnet0_5().layers[0].weight.shape


def test_load_code_that_renames_fills_what_it_renames():
    with torch.device("meta"):
        module = torchvision.models.VisionTransformer(32, 16, 2, 2, 8, 16)
    names = {
        name: name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2") for name in module.state_dict()
    }
    state_dict = OrderedDict((names[name], value) for name, value in module.state_dict().items())
    state_dict._metadata = {name: {"version": 1} for name in module.state_dict()._metadata}
    report = check_module(architecture_of_state_dict(state_dict), module)
    answer = module.load_state_dict(state_dict, strict=False)
    assert (answer.missing_keys, answer.unexpected_keys) == ([], [])
    assert (report.verdict, report.missing, report.unexpected) == ("exact", [], [])
    assert len(report.hooked) == 8
    assert report.hooks == ["MLPBlock._load_from_state_dict (encoder.layers.encoder_layer_0.mlp and 1 more)"]


def test_a_hook_that_drops_a_tensor_is_named_and_torch_wins():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))

    def forget(_module, state_dict, prefix, *_):
        state_dict.pop(f"{prefix}bias", None)

    module[1].register_load_state_dict_pre_hook(forget)
    report = check_module(architecture_of(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))), module)
    assert report.missing == ["1.bias"]
    assert "forget" in report.hooks[0]
    assert not report.loads


def test_the_check_changes_nothing_of_a_live_module():
    module = Tied()
    module.register_load_state_dict_pre_hook(lambda *_: None)
    before = copy.deepcopy(module.state_dict())
    report = check_module(architecture_of(Tied()), module)
    assert report.verdict == "exact"
    assert module.head.weight is module.embed.weight
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
