"""What a service says that nobody need trust: its names and digests become paths of the cache."""

import json

import pytest
import torch
from pydantic import ValidationError

from registry.client.client import Client
from registry.client.results import Version

HOSTILE_NAMES = ["..", "/root/.config", "../../other", "a/b", "", "a\0b"]
HOSTILE_DIGESTS = ["x:/home/me/thesis.tex", "blake3:../../../../thesis.tex", "blake3:" + "0" * 63, "", "0" * 64]


@pytest.fixture(scope="module")
def answered(live_server, tmp_path_factory):
    """What a service says of a version."""
    folder = tmp_path_factory.mktemp("hostile")
    torch.save({"weight": torch.ones(3)}, folder / "model.pt")
    with Client(live_server.url, cache_dir=folder / "cache") as client:
        return json.loads(client.push("vision/hostile", folder / "model.pt").model_dump_json())


def test_what_a_service_says_is_taken(answered):
    assert Version.model_validate(answered).artifacts[0].blake3 == answered["artifacts"][0]["blake3"]


@pytest.mark.parametrize("member", ["team", "model"])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(answered, member, name):
    with pytest.raises(ValidationError):
        Version.model_validate(answered | {member: name})


@pytest.mark.parametrize(("member", "algorithm"), [("sha256", "blake3"), ("blake3", "sha256")])
def test_a_digest_of_the_other_kind_is_refused(answered, member, algorithm):
    changed = [each | {member: f"{algorithm}:{'0' * 64}"} for each in answered["artifacts"]]
    with pytest.raises(ValidationError):
        Version.model_validate(answered | {"artifacts": changed})


@pytest.mark.parametrize("member", ["sha256", "blake3"])
@pytest.mark.parametrize("digest", HOSTILE_DIGESTS)
def test_a_digest_that_is_none_is_refused(answered, member, digest):
    changed = [each | {member: digest} for each in answered["artifacts"]]
    with pytest.raises(ValidationError):
        Version.model_validate(answered | {"artifacts": changed})
