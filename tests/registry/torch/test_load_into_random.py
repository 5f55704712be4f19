"""Property: after a load every tensor is the source's, cast as reported, or named; after an error nothing moved."""

import copy
import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from module_state import bits_of, state_of
from random_modules import modules, saved

from registry.client.client import Client
from registry.errors import WeighbridgeError
from registry.torch.architecture import architecture_of_state_dict
from registry.torch.load_hooks import clone_on_meta

EVERYTHING = {"allow_missing": "*", "allow_unexpected": "*", "cast": "any"}
wishes = st.sampled_from([{}, EVERYTHING, {"drop_head": True, "allow_missing": "*"}, {"drop_head": False}])


def converted(value, like):
    return torch.empty_like(like).copy_(value.reshape(like.shape)) if like.is_floating_point() else value.to(like.dtype)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    data=st.data(),
    target=modules,
    other=modules,
    given=wishes,
    backbone=st.booleans(),
    assign=st.booleans(),
    on_meta=st.booleans(),
)
def test_every_tensor_is_the_sources_or_named_or_nothing_moved(data, target, other, given, backbone, assign, on_meta):
    state_dict = data.draw(saved(copy.deepcopy(data.draw(st.sampled_from([target, target, other])))))
    module = clone_on_meta(target) if on_meta and assign else copy.deepcopy(target)
    before, values = state_of(module), {name: value.clone() for name, value in module.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder, Client("http://127.0.0.1:9", cache_dir=folder, progress=False) as hub:
        path = Path(folder) / "weights.pt"
        torch.save(state_dict, path)
        load = hub.load_backbone if backbone else hub.load_into
        try:
            result = load(path, module, assign=assign, **given)
        except WeighbridgeError:
            assert state_of(module) == before
            return
    assert result.loaded or result.report.hooked
    loaded = module.state_dict()
    for name, value in loaded.items():
        assert value.dtype == values[name].dtype
        source = result.loaded.get(name)
        if source is not None:
            wanted = converted(state_dict[source].detach(), value)
            assert bits_of(value) == bits_of(wanted.reshape(value.shape))
        else:
            assert name in {*result.missing_keys, *result.report.counters}
            assert value.is_meta is False
            assert values[name].is_meta or bits_of(value) == bits_of(values[name])
    ties = [spec.tie for spec in architecture_of_state_dict(loaded).tensors.values()]
    assert ties == [spec.tie for spec in architecture_of_state_dict(target.state_dict()).tensors.values()]
    left = {name for name in state_dict if name not in result.loaded.values()}
    assert left == {*result.unexpected_keys}
    if not given and not backbone:
        assert result.report.loads
        assert not result.missing_keys
