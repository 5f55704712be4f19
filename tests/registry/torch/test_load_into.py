"""Loads of local files into live modules: all that was asked for, or nothing at all."""

import re
from collections import OrderedDict

import pytest
import torch
from module_state import bits_of, same_values, state_of
from small_nets import Net, Stateful, Tied
from torch import nn

from registry.errors import InvalidRequestError, StateDictMismatchError


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
