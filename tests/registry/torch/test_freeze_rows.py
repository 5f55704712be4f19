"""Frozen rows of a tensor that trains otherwise."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from registry.errors import InvalidRequestError
from registry.torch.freeze import freeze, unfreeze

ROWS = {"embed.weight": [(0, 4), (6, 7)]}
KEPT = [0, 1, 2, 3, 6]
FREE = [4, 5, 7]


class Net(nn.Module):
    def __init__(self, *, sparse=False):
        super().__init__()
        self.embed = nn.Embedding(8, 3, sparse=sparse)
        self.out = nn.Linear(3, 2)

    def forward(self, words):
        return self.out(self.embed(words))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def train(net, optimizer=torch.optim.AdamW, **options):
    optimizer = optimizer(net.parameters(), lr=0.1, **options)
    for _ in range(3):
        net.train()
        net(torch.arange(8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def unwrapped(net):
    return net.module if isinstance(net, AveragedModel) else net


def through_torch_save(net):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def on_new_tensors(net):
    state_dict = {name: each.clone() for name, each in net.state_dict().items()}
    net.to_empty(device="meta")
    net.to_empty(device="cpu")
    net.load_state_dict(state_dict, assign=True)
    for parameter in net.parameters():
        parameter.requires_grad = True
    return net


WAYS = {
    "as it is": lambda net: net,
    "deepcopy": copy.deepcopy,
    "deepcopy of a deepcopy": lambda net: copy.deepcopy(copy.deepcopy(net)),
    "torch.save": through_torch_save,
    "AveragedModel": AveragedModel,
    "new tensors": on_new_tensors,
    "dtype": lambda net: net.double(),
}


@pytest.mark.parametrize("way", WAYS)
def test_frozen_rows_stay_bit_for_bit_and_the_others_move(net, way):
    freeze(net, "out", rows=ROWS)
    net = WAYS[way](net)
    before = unwrapped(net).embed.weight.detach().clone()

    train(net, weight_decay=0)

    now = unwrapped(net).embed.weight
    assert torch.equal(now[KEPT], before[KEPT])
    assert not (now[FREE] == before[FREE]).any()


@pytest.mark.parametrize("way", ["deepcopy", "new tensors"])
def test_a_compiled_copy_keeps_frozen_rows(net, way):
    freeze(net, "out", rows=ROWS)
    net = WAYS[way](net)
    before = net.embed.weight.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns at itself where it breaks the graph for the new hook
        train(torch.compile(net, backend="aot_eager"), weight_decay=0)
    assert torch.equal(net.embed.weight[KEPT], before[KEPT])
    assert not torch.equal(net.embed.weight[FREE], before[FREE])


def test_sparse_gradients_leave_frozen_rows_out():
    net = Net(sparse=True)
    freeze(net, rows=ROWS)
    before = net.embed.weight.detach().clone()
    train(net, torch.optim.SGD)
    assert torch.equal(net.embed.weight[KEPT], before[KEPT])
    assert not torch.equal(net.embed.weight[FREE], before[FREE])


def test_weight_decay_moves_frozen_rows_so_its_group_needs_none(net):
    freeze(net, rows=ROWS)
    before = net.embed.weight.detach().clone()
    train(net, weight_decay=0.1)
    assert not torch.equal(net.embed.weight[KEPT], before[KEPT])


def test_everything_else_is_frozen(net):
    frozen = freeze(net, rows=ROWS)
    assert frozen.trainable == ["embed.weight"]
    assert frozen.rows == ROWS
    assert "rows       embed.weight: 0:4, 6:7 frozen" in str(frozen)


def test_unfreezing_lets_the_rows_train(net):
    freeze(net, rows=ROWS)
    assert unfreeze(net, "out").rows == ROWS
    assert unfreeze(net, "embed.weight").rows == {}
    before = net.embed.weight.detach().clone()
    train(net, weight_decay=0)
    assert not (net.embed.weight == before).any()


def test_freezing_again_replaces_the_rows(net):
    freeze(net, rows=ROWS)
    freeze(net, rows={"embed.weight": [(7, 8)]})
    before = net.embed.weight.detach().clone()
    train(net, weight_decay=0)
    assert [torch.equal(one, other) for one, other in zip(net.embed.weight, before, strict=True)] == [False] * 7 + [
        True
    ]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"embd.weight": [(0, 1)]}, "Did you mean embed.weight"),
        ({"embed": [(0, 1)]}, "is no parameter"),
        ({"embed.weight": [(0, 9)]}, r"8 rows; \(0, 9\) is no range"),
        ({"embed.weight": [(3, 3)]}, "is no range"),
        ({"embed.weight": [(-1, 3)]}, "is no range"),
    ],
)
def test_rows_that_do_not_exist_are_refused_and_nothing_changes(net, rows, says):
    with pytest.raises(InvalidRequestError, match=says):
        freeze(net, rows=rows)
    assert all(each.requires_grad for each in net.parameters())


def test_rows_of_what_does_not_train_are_refused(net):
    net.embed.weight.requires_grad = False
    with pytest.raises(InvalidRequestError, match="does not train"):
        freeze(net, rows=ROWS)
