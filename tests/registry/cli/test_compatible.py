"""`weighbridge compatible` against a real server process."""

import hashlib

import pytest
import torch
from torch import nn

from registry.client.client import Client


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 37, 3), nn.BatchNorm2d(37), nn.Linear(37, 41))


@pytest.fixture
def name(live_server, monkeypatch):
    monkeypatch.setenv("WEIGHBRIDGE_URL", live_server.url)
    name = "vision/" + hashlib.sha256(__name__.encode()).hexdigest()[:12]
    with Client(live_server.url, progress=False) as client:
        client.push(name, Net())
    return name


def test_what_fits_a_target_is_a_table_or_json(run, name, tmp_path):
    torch.save({f"body.{key}": value for key, value in Net().state_dict().items()}, tmp_path / "target.pt")
    ran = run("compatible", "--target", str(tmp_path / "target.pt"))
    assert ran.code == 0
    head, first, *_ = ran.out.splitlines()
    assert head.split() == ["SHARE", "VERDICT", "INTO", "VERSION", "MORE", "NEEDS"]
    assert first.split()[:4] == ["100", "%", "exact", "body"]
    assert name in first
    found = run("compatible", "--target", str(tmp_path / "target.pt"), "--json", "--limit", "1").json
    assert [(match["verdict"], match["into"]) for match in found] == [("exact", "body")]


def test_a_builder_is_a_target_and_finding_nothing_is_no_failure(run, name):
    ran = run("compatible", "--target", "torch.nn:Bilinear", "--arg", "in1_features=1237", "--arg", "in2_features=3",
              "--arg", "out_features=1237")  # fmt: skip
    assert (ran.code, ran.out) == (0, "")
    assert "Nothing that you may read fits torch.nn:Bilinear(in1_features=1237" in ran.err
