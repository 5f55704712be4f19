"""A comparison in a sentence: which parts of the network it names."""

import pytest
import torch
from small_nets import Net

from registry.client.comparing import read_local
from registry.lineage.differences import compare_contents
from registry.lineage.story import find_heads, tell
from registry.torch.architecture import architecture_of

FROM = "vision/net:1"


@pytest.fixture
def told(tmp_path):
    """Return a function that says what became of a network on the way to another one."""

    def tell_of(old, new, recorded=()):
        contents = []
        for module in (old, new):
            torch.save(module.state_dict(), tmp_path / "model.pt")
            contents.append(read_local(tmp_path / "model.pt"))
        found = compare_contents(*contents)
        heads = find_heads(architecture_of(old), architecture_of(new), found, recorded)
        return tell("vision/net:2", FROM, "base", found, heads)

    return tell_of


def copy_of(module, **arguments):
    made = Net(**arguments)
    own = made.state_dict()
    fitting = {name: each for name, each in module.state_dict().items() if each.shape == own[name].shape}
    made.load_state_dict(fitting, strict=False)
    return made


def test_a_new_head_on_a_frozen_trunk(told):
    old = Net(classes=5, width=64)

    lineage = told(old, copy_of(old, classes=7, width=64))

    assert lineage.text == f"97 % of bytes shared with {FROM}; head has another shape (fc)"
    assert [(each.kind, each.name, each.count, each.total) for each in lineage.changes] == [("head", "fc", 2, 2)]


def test_statistics_that_moved_and_one_block_that_was_trained(told):
    old = Net(width=64)
    new = copy_of(old, width=64)
    for block in new.layers:
        block.norm.running_mean += 1
    new.layers[2].conv.weight.data += 1
    new.fc.bias.data += 1

    lineage = told(old, new)

    assert lineage.text == (
        f"72.9 % of bytes shared with {FROM}; head changed (fc); BatchNorm statistics moved; layers.2.conv changed"
    )


def test_the_head_is_what_was_recorded(told):
    old = Net(width=64)
    new = copy_of(old, width=64)
    new.stem.weight.data += 1

    assert "head changed (stem)" in told(old, new, recorded=["stem"]).text
    assert told(old, new).text.endswith("stem changed (1 of 2 tensors)")


def test_equal_networks_are_the_same_tensors(told):
    old = Net()

    assert told(old, copy_of(old)).text == f"the same tensors as {FROM}"


def test_networks_without_a_tensor_in_common(told):
    old, new = Net(width=64, norm=False), Net(width=64, norm=False)

    assert told(old, new).text == f"0 % of bytes shared with {FROM}; no tensor is as it was"


def test_what_is_not_all_is_never_called_all(told):
    old = Net(width=256)
    new = copy_of(old, width=256)
    new.fc.bias.data += 1

    assert told(old, new).text == f"99.9 % of bytes shared with {FROM}; head changed (fc)"
