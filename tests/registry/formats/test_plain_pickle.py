"""A head that follows from its manifest is not interpreted; the pickle machine is the judge of what that says."""

import contextlib
import copy
import io
import json
from collections import OrderedDict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_modules import modules, saved
from torch import nn

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats import head
from registry.formats.head import find_head, read_head
from registry.formats.limits import DEFAULT_LIMITS
from registry.formats.plain_pickle import PlainPickle
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.formats.wire import inspection_from_json, inspection_to_json

COMPARED = ("kind", "trust", "tensors", "entries", "parts", "metadata", "file_metadata")
slow = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def published(value):
    """Return the head of a saved value and its manifest, whose keys have no order; None where it has no storages."""
    file = io.BytesIO()
    torch.save(value, file)
    data = file.getvalue()
    manifest = json.loads(json.dumps(inspection_to_json(read(BytesSource(data)).inspection), sort_keys=True))
    found = find_head(inspection_from_json(copy.deepcopy(manifest)))
    return None if found is None else (data[: found[1]], manifest)


def match(data, manifest):
    start = head._find_pickle(data)
    return PlainPickle(inspection_from_json(manifest), DEFAULT_LIMITS).match(data, start)


def read_by_machine(data, known):
    """Return what the pickle machine says of a head."""
    return head._read_zip(data, head._find_pickle(data), known, DEFAULT_LIMITS)


@slow
@given(modules)
def test_the_state_dict_of_a_module_follows_from_its_manifest(module):
    found = published(module.state_dict())
    if found is not None:
        data, manifest = found
        assert list(match(data, manifest).items()) == list(module.state_dict()._metadata.items())


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(*(nn.Linear(1, 1) for _ in range(12))),
        nn.Sequential(*(nn.BatchNorm1d(1) for _ in range(200))),
        nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(1001))),
        nn.Sequential(nn.Conv3d(1, 300, 1), nn.Linear(70_000, 1)),
    ],
    ids=["one-letter names", "a thousand values", "one value after a thousand", "large sizes"],
)
def test_so_does_one_with(module):
    assert match(*published(module.state_dict())) is not None


def test_so_does_one_with_gradients_and_views():
    state_dict = nn.Linear(3, 3).state_dict()
    state_dict["weight"] = torch.rand(4, 5, requires_grad=True)
    state_dict["part"] = torch.rand(9)[2::3]
    assert match(*published(state_dict)) is not None


@slow
@given(st.data())
def test_what_is_not_interpreted_says_what_the_machine_finds(data):
    found = published(data.draw(saved(data.draw(modules))))
    if found is None:
        return
    bytes_, manifest = found
    at = data.draw(st.integers(0, len(bytes_) - 1))
    changed = data.draw(
        st.sampled_from([bytes_, bytes_[:at] + bytes([data.draw(st.integers(0, 255))]) + bytes_[at + 1 :]])
    )
    known = inspection_from_json(manifest)
    try:
        document = read_head(changed, known)
    except (MalformedArtifactError, UnsafeArtifactError):
        return
    judged = read_by_machine(changed, known)
    for member in COMPARED:
        assert getattr(document.inspection, member) == getattr(judged.inspection, member)


def said(manifest):
    """Return what a manifest says, as it is read: an empty text is as good as an empty list."""
    return json.dumps(inspection_to_json(inspection_from_json(manifest)), sort_keys=True)


def places(value, path=()):
    """Return the paths of everything below a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, member in members for each in places(member, (*path, key)))]


@slow
@given(st.data())
def test_a_manifest_that_says_anything_else_does_not_match(data):
    found = published(data.draw(modules).state_dict())
    if found is None:
        return
    bytes_, manifest = found
    told = {name: manifest[name] for name in ("kind", "trust", "tensors", "entries", "parts", "metadata", "storages")}
    place = data.draw(st.sampled_from([each for each in places(told) if each and "record" not in each]))
    other = data.draw(
        st.sampled_from([None, True, 0, 1, 2, -1, 1.0, "", "1", "a", "cuda:0", [], [1], {}, {"version": 3}])
    )
    *outer, last = place
    holder = manifest
    for key in outer:
        holder = holder[key]
    before, holder[last] = said(manifest), other
    with contextlib.suppress(MalformedArtifactError):  # it is not even a manifest
        assert match(bytes_, manifest) is None or said(manifest) == before


def test_what_is_no_plain_state_dict_is_left_to_the_machine():
    linear = nn.Linear(2, 2)
    attributed = linear.state_dict()
    attributed.other = 1
    twice = linear.state_dict()
    twice["again"] = twice["weight"]
    told = linear.state_dict()
    told._metadata[""]["more"] = 1
    for value in (
        dict(linear.state_dict()),
        OrderedDict(linear.state_dict()),
        {"model": linear.state_dict(), "epoch": 1},
        attributed,
        twice,
        told,
        nn.ParameterDict({"a": linear.weight}).state_dict(keep_vars=True),
    ):
        data, manifest = published(value)
        known = inspection_from_json(manifest)
        assert match(data, manifest) is None
        assert read_head(data, known).root is not None


def test_a_truth_value_is_no_size():
    data, manifest = published(nn.BatchNorm1d(1).state_dict())
    manifest["tensors"][1]["shape"] = [True]
    assert match(data, manifest) is None


def test_a_view_beyond_its_storage_is_left_to_the_machine_which_refuses_it():
    data, manifest = published(nn.Linear(1, 3, bias=False).state_dict())
    [tensor] = manifest["tensors"]
    tensor["shape"], tensor["nbytes"] = [9, 1], 36
    data = data.replace(b"K\x03K\x01\x86", b"K\x09K\x01\x86")
    assert match(data, manifest) is None
    with pytest.raises(MalformedArtifactError):
        read_head(data, inspection_from_json(manifest))


def test_a_storage_that_no_tensor_has_is_left_to_the_machine():
    data, manifest = published(nn.Linear(1, 3).state_dict())
    more = {**manifest["storages"][-1], "key": "7"}
    assert match(data, {**manifest, "storages": [*manifest["storages"], more]}) is None
