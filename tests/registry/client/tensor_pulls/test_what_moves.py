"""Pulls by tensor from a real service: what moves, and that the tensors are those that torch loads."""

from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from equality import assert_same
from pulled_nets import BUDGET_BYTES, KIB, MIB, WIDTH, Net, moving_at_most, tuned_from
from torch import nn

from registry.client.several import Batch
from registry.errors import InvalidRequestError


def test_a_fine_tune_whose_base_is_in_the_cache_costs_what_changed(hub, proxy, push, name, base):
    push(name, base)
    tuned = tuned_from(base, "head", "trunk.3.1.running")
    file = push(f"{name}-tuned", tuned)
    changed = sum(each.nbytes for key, each in tuned.items() if not torch.equal(each, base[key]))
    hub.pull(name)

    with moving_at_most(proxy, changed + BUDGET_BYTES * len(tuned) + 64 * KIB):
        found = hub.pull(f"{name}-tuned")

    assert_same(found, torch.load(file, weights_only=True))
    with moving_at_most(proxy, 8 * KIB):
        assert_same(hub.pull(f"{name}-tuned"), torch.load(file, weights_only=True))


@pytest.fixture
def scattered():
    """300 vectors of statistics of 2 KiB, each between matrices of 16 KiB."""
    torch.manual_seed(0)
    pairs = [(f"{n}.weight", torch.randn(64, 64)) for n in range(300)]
    return OrderedDict(each for n, pair in enumerate(pairs) for each in (pair, (f"{n}.running_mean", torch.rand(512))))


def asked_bytes(proxy):
    """Return the requests for bytes that passed."""
    return [head for head in proxy.heads if head.startswith(b"GET ") and b"/artifacts/" in head.split(b"\r\n")[0]]


def test_many_short_changes_are_fetched_by_few_requests(hub, proxy, push, name, scattered):
    push(name, scattered)
    tuned = OrderedDict((key, value + 1 if "running" in key else value) for key, value in scattered.items())
    file = push(f"{name}-tuned", tuned)
    hub.pull(name)

    with moving_at_most(proxy, 300 * 2 * KIB + BUDGET_BYTES * len(tuned) + 64 * KIB):
        found = hub.pull(f"{name}-tuned")

    assert_same(found, torch.load(file, weights_only=True))
    assert len(asked_bytes(proxy)) <= 4


def test_a_service_that_answers_several_ranges_with_the_whole_is_asked_for_one_at_a_time(
    hub, proxy, push, name, scattered, monkeypatch
):
    push(name, scattered)
    changed = {"7.running_mean", "99.running_mean"}
    file = push(f"{name}-tuned", OrderedDict((key, value + (key in changed)) for key, value in scattered.items()))
    hub.pull(name)
    monkeypatch.setattr(Batch, "headers", {"Range": "bytes=9-9,0-0"})  # the whole is the answer to ranges out of order

    proxy.reset()

    assert_same(hub.pull(f"{name}-tuned"), torch.load(file, weights_only=True))

    assert len(asked_bytes(proxy)) == 1 + len(changed) + 1  # the head of the file is the third


def test_the_same_tensors_in_another_format_are_not_fetched_again(hub, proxy, push, name):
    state_dict = {f"{number}.weight": torch.randn(WIDTH, WIDTH) for number in range(16)}
    push(name, state_dict)
    file = push(f"{name}-safe", state_dict, ".safetensors", safetensors.torch.save_file)
    hub.pull(name)

    with moving_at_most(proxy, 32 * KIB):
        found = hub.pull(f"{name}-safe")

    assert_same(dict(found), safetensors.torch.load_file(file))


@pytest.mark.parametrize("copied_bytes", [0, MIB], ids=["mapped again", "copied"])
def test_equal_tensors_are_one_memory_only_where_they_were_tied(hub, push, name, base, monkeypatch, copied_bytes):
    monkeypatch.setattr("registry.torch.storages._COPIED_BYTES", copied_bytes)
    push(name, base)
    equal = OrderedDict((key, value.clone()) for key, value in base.items())
    file = push(f"{name}-untied", equal)
    hub.pull(name)

    found = hub.pull(f"{name}-untied")

    assert_same(found, torch.load(file, weights_only=True))
    found["tied.weight"].zero_()
    assert torch.equal(found["trunk.0.0.weight"], base["trunk.0.0.weight"])
    assert torch.equal(hub.pull(f"{name}-untied")["tied.weight"], base["tied.weight"])


def test_training_in_place_changes_no_cached_file(hub, push, name, base):
    push(name, base)
    push(f"{name}-tuned", tuned_from(base, "head"))
    hub.pull(name)
    for tensor in hub.pull(f"{name}-tuned").values():
        tensor.zero_()

    assert all(sound for _, sound in hub.connection.cache.verify())


def test_what_is_included_moves_and_nothing_else(hub, proxy, push, name, base):
    file = push(name, base)

    with moving_at_most(proxy, 2 * (WIDTH + 1) * WIDTH * 4 + 64 * KIB):
        found = hub.pull(name, include="trunk.[12].*", exclude="*.num_batches_tracked")

    truth = torch.load(file, weights_only=True)
    wanted = [key for key in truth if key.startswith(("trunk.1.", "trunk.2.")) and "num_batches" not in key]
    assert list(found) == wanted
    assert all(torch.equal(found[key], truth[key]) for key in wanted)
    with moving_at_most(proxy, sum(each.nbytes for each in base.values()) // 2):
        assert_same(hub.pull(name, exclude="head.*"), tuned_without(truth, "head."))


def tuned_without(state_dict, prefix):
    kept = OrderedDict(each for each in state_dict.items() if not each[0].startswith(prefix))
    kept._metadata = state_dict._metadata
    return kept


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_an_error_before_a_byte_moves(hub, proxy, push, name, base, option):
    push(name, base)

    with moving_at_most(proxy, 32 * KIB), pytest.raises(InvalidRequestError, match=r"haed\.\*"):
        hub.pull(name, **{option: "haed.*"})


def test_the_weights_of_a_checkpoint_move_without_its_optimizer(hub, proxy, push, name):
    module = Net()
    optimizer = torch.optim.Adam(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    file = push(name, {"epoch": 3, "state_dict": module.state_dict(), "optimizer": optimizer.state_dict()})

    with moving_at_most(proxy, 0.36 * file.stat().st_size):
        found = hub.pull(name, only="weights")

    assert_same(found, torch.load(file, weights_only=True)["state_dict"])


def test_a_backbone_is_fetched_without_the_head_it_leaves_out(hub, proxy, push, name, base):
    push(name, base)
    other = Net()
    other.head = nn.Linear(WIDTH, 3)

    with moving_at_most(proxy, sum(each.nbytes for each in base.values()) - 900 * KIB):
        hub.load_backbone(name, other)

    assert torch.equal(other.trunk[5][0].weight, base["trunk.5.0.weight"])


def test_a_module_is_loaded_from_several_cached_files(hub, proxy, push, name, base):
    push(name, base)
    tuned = tuned_from(base, "head")
    push(f"{name}-tuned", tuned)
    hub.pull(name)
    module = Net()

    with moving_at_most(proxy, MIB + BUDGET_BYTES * len(base) + 64 * KIB + 4 * KIB):
        hub.load_into(f"{name}-tuned", module)

    assert all(torch.equal(value, tuned[key]) for key, value in module.state_dict().items())


def test_a_base_that_was_downloaded_or_pushed_from_here_counts_too(hub, proxy, push, name, base, tmp_path):
    push(name, base)
    push(f"{name}-tuned", tuned_from(base, "head"))
    hub.download(name, tmp_path / "out")
    with moving_at_most(proxy, MIB + BUDGET_BYTES * len(base) + 64 * KIB + 4 * KIB):
        hub.pull(f"{name}-tuned")

    other = tuned_from(base, "trunk.0", "trunk.1", "tied")
    hub.push(f"{name}-pushed", other)
    push(f"{name}-again", tuned_from(other, "head.bias"))
    with moving_at_most(proxy, 128 * KIB):
        hub.pull(f"{name}-again", include=["trunk.0.*", "trunk.1.*", "head.bias"])


def test_what_cannot_be_taken_apart_is_fetched_whole(hub, push, name, base):
    kinds = {
        "legacy": {"_use_new_zipfile_serialization": False},
        "odd": {},
    }
    odd = OrderedDict(base, extra=(torch.ones(2), {"a"}))
    for kind, options in kinds.items():
        file = push(f"{name}-{kind}", odd if kind == "odd" else base, **options)

        found = hub.pull(f"{name}-{kind}", exclude="head.*" if kind == "legacy" else "extra")

        truth = torch.load(file, weights_only=True)
        assert all(torch.equal(value, truth[key]) for key, value in found.items())
    assert len(hub.pull(f"{name}-odd")["extra"]) == 2
