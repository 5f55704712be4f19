"""Finding weights for a module, on a real server."""

import hashlib

import pytest
import torch
from torch import nn

from registry.client.client import Client
from registry.errors import OfflineError, UnsupportedValueError
from registry.torch.architecture import architecture_of


class Body(nn.Module):
    """A trunk whose sizes no other test's module has."""

    def __init__(self, width=23):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.mix = nn.Linear(width, width + 6)


class Net(Body):
    def __init__(self, classes=5):
        super().__init__()
        self.fc = nn.Linear(29, classes)


class Wrapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Body()
        self.decoder = nn.Linear(29, 3)


@pytest.fixture
def client(live_server):
    with Client(live_server.url, progress=False) as client:
        yield client


@pytest.fixture(scope="module")
def pushed(live_server):
    """Versions of a model: two of one architecture."""
    name = "vision/" + hashlib.sha256(__name__.encode()).hexdigest()[:12]
    with Client(live_server.url, progress=False) as client:
        client.push(name, Net())
        client.push(name, Net())
    return name


def test_versions_are_found_for_a_module_on_any_device(client, pushed):
    with torch.device("meta"):
        module = Net()
    for target in (module, Net(), architecture_of(Net()), pushed, f"{pushed}:1"):
        match = client.compatible(target)[0]
        assert (match.verdict, match.share, match.into) == ("exact", 1.0, "")
        assert [version.reference for version in match.versions] == [f"{pushed}:2"]
        assert match.version_count == 2


def test_a_local_file_can_be_the_target(client, pushed, tmp_path):
    torch.save(Net(classes=9).state_dict(), tmp_path / "mine.pt")
    match = client.compatible(tmp_path / "mine.pt")[0]
    assert (match.verdict, match.needs) == ("backbone", ["new_head"])


def test_a_match_prints_how_much_fits_where(client, pushed):
    found = client.compatible(Wrapping())
    assert found[0].into == "encoder"
    assert str(found[0]).endswith(f"into encoder: {pushed}:2 and 1 more version; needs drop_extra")
    assert str(found).splitlines()[0] == str(found[0])


def test_nothing_found_is_said(client):
    found = client.compatible(nn.Sequential(nn.Linear(1237, 11), nn.Linear(11, 1237)))
    assert list(found) == []
    assert str(found).startswith("Nothing that you may read")


def test_a_module_without_shapes_is_named(client):
    with pytest.raises(UnsupportedValueError, match="lazy"):
        client.compatible(nn.Sequential(nn.LazyLinear(3)))


def test_finding_needs_the_service(live_server):
    with Client(live_server.url, offline=True) as client, pytest.raises(OfflineError):
        client.compatible(Net())
