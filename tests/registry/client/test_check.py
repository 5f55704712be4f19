"""Checks against a real server, by manifests alone."""

import hashlib

import pytest
import torch
from torch import nn

from registry.client.client import Client
from registry.errors import AmbiguousPrefixError, InvalidRequestError
from registry.torch.architecture import architecture_of


@pytest.fixture
def client(live_server):
    with Client(live_server.url, progress=False) as client:
        yield client


@pytest.fixture
def name(request):
    """A model of this test's own, on a server that tests share."""
    return "vision/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(300, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 300, bias=False)
        self.head.weight = self.embed.weight


def test_a_version_is_checked_against_a_module_without_fetching_weights(client, name, live_server, tmp_path):
    client.push(name, Tied())
    with Client(live_server.url, cache_dir=tmp_path / "other-cache") as other:
        report = other.check(name, Tied())
        assert (report.verdict, report.loads) == ("exact", True)
        assert report.source == f"{name}:1"
        with torch.device("meta"):
            assert other.check(name, Tied()).verdict == "exact"
        assert other.check(name, architecture_of(Tied())).verdict == "exact"
        kept = [path for path in other.cache_dir.rglob("*") if path.is_file()]
    assert all(path.stat().st_size < Tied().embed.weight.nbytes for path in kept)


def test_what_does_not_fit_is_said_before_anything_is_loaded(client, name):
    client.push(name, nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 10)))
    other = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    report = client.check(name, other)
    assert (report.verdict, report.needs, report.head) == ("backbone", ["new_head"], ["3"])
    assert f"hub.load_backbone('{name}:1', module)" in str(report)
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())


def test_what_fits_is_filled_and_what_is_missing_stays(client, name):
    source = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 10))
    client.push(name, {f"model.{key}": value for key, value in source.state_dict().items()})
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    report = client.check(name, module)
    head = module[2].weight.detach().clone()
    left = module.load_state_dict(report.fitting(client.pull(name)), strict=False)
    assert (left.missing_keys, left.unexpected_keys) == (["2.weight", "2.bias"], [])
    assert torch.equal(module[1].weight, source[1].weight)
    assert torch.equal(module[2].weight, head)


def test_digests_of_the_manifest_tell_equal_tied_tensors_from_different_ones(client, name):
    values = {key: value.detach().clone() for key, value in Tied().state_dict().items()}
    client.push(name, values)
    assert client.check(name, Tied()).verdict == "exact"
    values["head.weight"] += 1
    client.push(name, values)
    assert client.check(name, Tied()).reasons == ["tied_conflict"]


def test_twins_need_a_prefix(client, name):
    inner = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 4))
    client.push(name, nn.ModuleDict({"a": inner, "b": nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 4))}))
    with pytest.raises(AmbiguousPrefixError):
        client.check(name, inner)
    assert client.check(name, inner, prefix=("a.", "")).loads


def test_a_target_that_is_no_module_is_a_named_error(client, name):
    client.push(name, Tied())
    with pytest.raises(InvalidRequestError, match=r"nn.Module or an Architecture"):
        client.check(name, Tied().state_dict())
