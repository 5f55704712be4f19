"""Loads of local files into live modules: all that was asked for, or nothing at all."""

import os
import re
import signal
from collections import OrderedDict

import pytest
import torch
from module_state import bits_of, state_of
from small_nets import Net, Tied
from torch import nn

from registry.errors import InvalidRequestError, StateDictMismatchError, UnsupportedValueError


class Stateful(nn.Module):
    """Keeps something beside its tensors, which can refuse what it is given."""

    def __init__(self, scale=1.0, *, refuses=False):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.scale, self.refuses, self.history = scale, refuses, ["made"]

    def get_extra_state(self):
        return {"scale": self.scale}

    def set_extra_state(self, state):
        self.scale = state["scale"]
        self.history.append("loaded")
        if self.refuses:
            raise ValueError("half of it is enough")


def same_values(module, state_dict):
    loaded = module.state_dict()
    return all(torch.equal(loaded[name], value) for name, value in state_dict.items() if torch.is_tensor(value))


def test_every_tensor_is_filled_and_optimizers_keep_their_parameters(hub, saved):
    source, module = Net(), Net()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    parameters = list(module.parameters())
    result = hub.load_into(saved(source), module)
    assert same_values(module, source.state_dict())
    assert all(one is other for one, other in zip(parameters, module.parameters(), strict=True))
    assert optimizer.param_groups[0]["params"][0] is module.stem.weight
    assert (result.missing_keys, result.unexpected_keys, result.adapted) == ([], [], {})
    assert result.loaded == {name: name for name in module.state_dict()}
    assert result.report.verdict == "exact"
    assert str(result).startswith("LOADED: 22 tensors of ")
    assert result.to_json()["loaded"] == result.loaded


def test_wrapper_prefixes_are_taken_off(hub, saved):
    source, module = Net(), Net()
    wrapped = OrderedDict((f"module.{name}", value) for name, value in source.state_dict().items())
    result = hub.load_into(saved(wrapped), module)
    assert same_values(module, source.state_dict())
    assert result.loaded["fc.weight"] == "module.fc.weight"


def wrong_prefix():
    return {f"a.{name}.b": value for name, value in Net().state_dict().items()}


def without_counters():
    state_dict = Net().state_dict()
    for name in [name for name in state_dict if name.endswith("num_batches_tracked")]:
        del state_dict[name]
    return state_dict


def as_integers():
    return {name: value.long() for name, value in Net().state_dict().items()}


def untied():
    state_dict = OrderedDict((name, value.clone()) for name, value in Tied().state_dict().items())
    state_dict["head.weight"] += 1
    return state_dict


FAILURES = {
    "another head": (lambda: Net(classes=7), Net, r"2 tensors .*fc\.weight, fc\.bias.*\[7, 4\].*\[5, 4\]"),
    "no head": (lambda: {k: v for k, v in Net().state_dict().items() if "fc" not in k}, Net, "fc.weight, fc.bias"),
    "a deeper source": (
        lambda: Net(depth=4),
        Net,
        r'3 tensors of the source\'s trunk .*allow_unexpected=\["layers\.3\.\*"\]',
    ),
    "a deeper target": (lambda: Net(depth=2), Net, r'5 tensors would .*: layers\.2.*allow_missing=\["layers\.2\.\*"\]'),
    "another family": (Tied, Net, "No tensor fits"),
    "a wider net": (lambda: Net(width=8), Net, "another network"),
    "a wrong prefix": (wrong_prefix, Net, r"No tensor fits: the source has 'a\.stem\.weight\.b'"),
    "no counters": (without_counters, Net, r'allow_missing=\["layers\.0\.norm\.num_batches_tracked"'),
    "integers": (as_integers, lambda: integers(Net()), None),
    "floats into integers": (Net, lambda: integers(Net()), 'cast="any"'),
    "tied weights that differ": (untied, Tied, r'allow_unexpected=\["head\.\*"\]'),
    "no extra state": (lambda: dict(Net(norm=False).state_dict()), Stateful, "No tensor fits"),
    "statistics that nobody takes": (Net, lambda: no_statistics(Net()), "layers.0.norm.running_mean"),
}


def integers(module):
    for name, value in dict(module.named_parameters()).items():
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, nn.Parameter(value.detach().long(), requires_grad=False))
    return module


def no_statistics(module):
    for part in module.layers:
        part.norm = nn.BatchNorm2d(4, track_running_stats=False)
    return module


@pytest.mark.parametrize("what", FAILURES)
def test_a_load_that_would_leave_or_drop_something_changes_nothing(hub, saved, what):
    make_source, make_target, said = FAILURES[what]
    module = make_target()
    before = state_of(module)
    path = saved(make_source())
    if said is None:
        hub.load_into(path, module)
        return
    with pytest.raises(StateDictMismatchError, match=said) as raised:
        hub.load_into(path, module)
    assert isinstance(raised.value, RuntimeError)
    assert state_of(module) == before
    with pytest.raises(StateDictMismatchError):
        hub.load_into(path, module, strict=False)
    assert state_of(module) == before


def arguments_of(error):
    """Return what an error's text offers, as it could be copied from there; long lists stand in the `extra`."""
    found = {}
    for name, globs in re.findall(r"(allow_missing|allow_unexpected|adapt)=(\[[^\]]*\])", str(error)):
        found.setdefault(name, []).extend(error.extra[name] if "…" in globs else eval(globs))  # noqa: S307 - our own words
    found |= dict.fromkeys(re.findall(r'cast="(any)"', str(error)) and ["cast"], "any")
    return found


@pytest.mark.parametrize(
    "what",
    [
        "another head",
        "no head",
        "a deeper source",
        "a deeper target",
        "a wider net",
        "no counters",
        "floats into integers",
        "tied weights that differ",
        "statistics that nobody takes",
    ],
)
def test_the_arguments_that_an_error_offers_work(hub, saved, what):
    make_source, make_target, _ = FAILURES[what]
    module, path = make_target(), saved(make_source())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(StateDictMismatchError) as raised:
        hub.load_into(path, module)
    result = hub.load_into(path, module, strict=False, **arguments_of(raised.value))
    assert {*result.loaded, *result.missing_keys} == {*module.state_dict()}
    assert all(torch.equal(module.state_dict()[name], before[name]) for name in result.missing_keys)


def test_a_glob_that_matches_nothing_is_an_error(hub, saved):
    path, module = saved(Net(classes=7)), Net()
    before = state_of(module)
    with pytest.raises(InvalidRequestError, match=r"allow_missing='head\.\*' matches no name of the target"):
        hub.load_into(path, module, allow_missing=["head.*"])
    with pytest.raises(InvalidRequestError, match=r"allow_unexpected='x' matches no name of the source"):
        hub.load_into(path, module, allow_missing="fc.*", allow_unexpected="x")
    assert state_of(module) == before


@pytest.mark.parametrize(
    "given",
    [
        {"cast": "all"},
        {"drop_head": "yes"},
        {"adapt": "resize_everything"},
        {"device": "cpu:nowhere"},
        {"dtype": torch.int8},
        {"dtype": torch.float16},
        {"device": "meta"},
    ],
)
def test_arguments_that_mean_nothing_here_are_errors(hub, saved, given):
    module = Net()
    before = state_of(module)
    with pytest.raises(InvalidRequestError):
        hub.load_into(saved(Net()), module, **given)
    assert state_of(module) == before


def test_a_device_and_dtype_that_the_module_has_are_no_matter(hub, saved):
    source, module = Net(), Net()
    hub.load_into(saved(source), module, device="cpu", dtype=torch.float32)
    assert same_values(module, source.state_dict())


def test_what_is_no_module_is_an_error(hub, saved):
    with pytest.raises(InvalidRequestError, match="not a OrderedDict"):
        hub.load_into(saved(Net()), Net().state_dict())


def test_a_head_that_fits_is_filled_unless_it_shall_be_dropped(hub, saved):
    source, module = Net(), Net()
    path = saved(source)
    result = hub.load_into(path, module)
    assert torch.equal(module.fc.weight, source.fc.weight)
    other = Net()
    before = bits_of(other.fc.weight)
    with pytest.raises(StateDictMismatchError, match=r'allow_missing=\["fc\.\*"\]'):
        hub.load_into(path, other, drop_head=True)
    result = hub.load_into(path, other, drop_head=True, allow_missing="fc.*")
    assert bits_of(other.fc.weight) == before
    assert (result.missing_keys, result.unexpected_keys) == (["fc.weight", "fc.bias"], ["fc.weight", "fc.bias"])


def test_a_head_without_a_place_is_dropped_unless_all_of_it_is_wanted(hub, saved):
    path, module = saved(Net()), Net()
    del module.fc
    assert hub.load_into(path, module).unexpected_keys == ["fc.weight", "fc.bias"]
    with pytest.raises(StateDictMismatchError, match=r'allow_unexpected=\["fc\.\*"\]'):
        hub.load_into(path, module, drop_head=False)
    hub.load_into(path, module, drop_head=False, allow_unexpected="fc.*")


def test_a_head_that_is_only_guessed_is_not_dropped_by_that(hub, saved):
    source = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    path = saved(source)
    with pytest.raises(InvalidRequestError, match=r'classifier=\["1"\]'):
        hub.load_into(path, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)), drop_head=True)
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    result = hub.load_backbone(path, module, drop_head=True, classifier=["1"])
    assert result.missing_keys == ["1.weight", "1.bias"]


def test_tied_weights_take_the_one_that_is_kept(hub, saved):
    source, module = untied(), Tied()
    hub.load_into(saved(source), module, allow_unexpected="head.weight")
    assert torch.equal(module.embed.weight, source["embed.weight"])
    assert module.head.weight is module.embed.weight


def test_casts_of_another_kind_are_done_when_they_are_meant(hub, saved):
    values = {"a": torch.tensor([1.5, -2.5]), "b": torch.tensor([1 + 2j]), "c": torch.eye(2).to_sparse()}
    module = nn.Module()
    for name, value in {"a": torch.zeros(2).int(), "b": torch.zeros(1), "c": torch.zeros(2, 2)}.items():
        module.register_buffer(name, value)
    path = saved(values)
    with pytest.raises(StateDictMismatchError, match="3 tensors would become another kind of number"):
        hub.load_into(path, module)
    hub.load_into(path, module, cast="any")
    assert (module.a.tolist(), module.b.tolist()) == ([1, -2], [1.0])
    assert torch.equal(module.c, torch.eye(2))


def test_extra_state_is_restored(hub, saved):
    module = Stateful()
    result = hub.load_into(saved(Stateful(scale=3.0)), module)
    assert (module.scale, module.history) == (3.0, ["made", "loaded"])
    assert result.loaded["_extra_state"] == "_extra_state"


def test_an_entry_that_was_given_up_need_not_be_restorable(hub, saved):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

    source = {**Plain().state_dict(), "_extra_state": slice(1, 2)}
    hub.load_into(saved(source), Plain(), allow_unexpected="_extra_state")


def test_bounds_of_one_element_load_into_a_scalar_and_back(hub, saved):
    module = nn.Module()
    module.register_buffer("value", torch.tensor(1.0))
    hub.load_into(saved({"value": torch.tensor([4.0])}), module)
    assert module.value.item() == 4


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


def test_loading_inside_inference_mode_or_from_a_thread_works(hub, saved):
    import threading

    source, module = Net(), Net()
    path = saved(source)
    thread = threading.Thread(target=hub.load_into, args=(path, module))
    thread.start()
    thread.join()
    assert same_values(module, source.state_dict())


def test_batch_norm_without_versions_counts_as_torch_lets_it(hub, saved):
    state_dict = dict(without_counters())
    module = Net()
    module.layers[0].norm.num_batches_tracked += 5
    hub.load_into(saved(state_dict), module)
    assert module.layers[0].norm.num_batches_tracked.item() == 5


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


class Packed(nn.Module):
    """Keeps bytes of any length as its extra state, as TransformerEngine does."""

    def __init__(self, text):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.text = text

    def get_extra_state(self):
        return torch.tensor(list(self.text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state):
        self.text = bytes(state.tolist()).decode()


def test_extra_state_that_is_a_tensor_may_have_any_length(hub, saved):
    module = Packed("short")
    hub.load_into(saved(Packed("as long as it likes")), module)
    assert module.text == "as long as it likes"


def test_ctrl_c_waits_until_the_module_is_whole(hub, saved, monkeypatch):
    source, module = Net(), Net()
    path, copy, count = saved(source), torch.Tensor.copy_, []

    def interrupt_the_third(self, *given, **options):
        count.append(self)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return copy(self, *given, **options)

    monkeypatch.setattr(torch.Tensor, "copy_", interrupt_the_third)
    with pytest.raises(KeyboardInterrupt):
        hub.load_into(path, module)
    assert len(count) > 3
    assert same_values(module, source.state_dict())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Sees(nn.Module):
    """Looks at images, and knows words; its output layer is its embedding."""

    def __init__(self, *, channels=3, words=6):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
        self.embed_tokens = nn.Embedding(words, 4)
        self.lm_head = nn.Linear(4, words, bias=False)
        self.lm_head.weight = self.embed_tokens.weight


def test_tensors_of_another_size_are_adapted_when_that_is_asked_for(hub, saved):
    source, module = Sees(), Sees(channels=1, words=8)
    path, before, rows = saved(source), state_of(module), module.embed_tokens.weight.detach()[6:].clone()
    with pytest.raises(StateDictMismatchError, match=r'adapt=\["adapt_first_conv"\]') as raised:
        hub.load_into(path, module)
    assert state_of(module) == before
    result = hub.load_into(path, module, adapt=arguments_of(raised.value)["adapt"])
    assert torch.allclose(module.stem.weight, source.stem.weight.sum(1, keepdim=True))
    assert torch.equal(module.embed_tokens.weight[:6], source.embed_tokens.weight)
    assert torch.equal(module.embed_tokens.weight[6:], rows)
    assert module.lm_head.weight is module.embed_tokens.weight
    assert {*result.adapted} == {"stem.weight", "embed_tokens.weight", "lm_head.weight"}
    assert "adapted    stem.weight: " in str(result)
    assert result.missing_keys == []


def test_tensors_of_another_size_may_also_stay(hub, saved):
    module = Sees(words=8)
    before = bits_of(module.embed_tokens.weight)
    result = hub.load_into(saved(Sees()), module, allow_missing=["embed_tokens.*", "lm_head.*"])
    assert bits_of(module.embed_tokens.weight) == before
    assert result.missing_keys == ["embed_tokens.weight", "lm_head.weight"]


def test_rows_that_nobody_has_cannot_be_adapted_on_the_meta_device(hub, saved):
    with torch.device("meta"):
        channels, words = Sees(channels=1), Sees(words=8)
    source = Sees()
    path = saved(source)
    hub.load_into(path, channels, assign=True, adapt="adapt_first_conv")
    assert torch.allclose(channels.stem.weight, source.stem.weight.sum(1, keepdim=True))
    before = state_of(words)
    with pytest.raises(StateDictMismatchError, match="on the meta device it has none"):
        hub.load_into(path, words, assign=True, adapt="resize_vocabulary")
    assert state_of(words) == before
