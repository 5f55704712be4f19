"""Tensors of another size: made to fit when that is asked for, left when they are named, an error otherwise."""

import pytest
import torch
from module_state import bits_of, state_of
from torch import nn

from registry.errors import StateDictMismatchError


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
    with pytest.raises(
        StateDictMismatchError, match=r'(?s)adapt=\["adapt_first_conv"\].*adapt=\["resize_vocabulary"\]'
    ):
        hub.load_into(path, module)
    assert state_of(module) == before
    result = hub.load_into(path, module, adapt=["adapt_first_conv", "resize_vocabulary"])
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
