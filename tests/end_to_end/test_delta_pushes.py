"""Fine-tunes pushed by the client: what goes over the wire, both ways with headers, and what comes back."""

import sys
from collections import OrderedDict
from urllib.parse import urlsplit

import pytest
import torch
import torchvision
from cutting_proxy import cutting_proxy
from safetensors.torch import save_file
from support.service import running

from weighbridge import Client

NETWORKS = [
    "resnet50",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg16", "densenet121", "efficientnet_b7")),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with running(tmp_path_factory.mktemp("service"), [sys.executable, "-m", "api", "serve"]) as running_service:
        yield running_service


@pytest.fixture(scope="module", params=NETWORKS)
def pushed(request, service, tmp_path_factory):
    """The state_dict of a network, stored as the model of its name."""
    folder = tmp_path_factory.mktemp("base")
    state = torchvision.models.get_model(request.param).state_dict()
    torch.save(state, folder / "model.pt")
    Client(service.url, cache_dir=folder / "cache", progress=False).push(f"vision/{request.param}", folder / "model.pt")
    return request.param, state


def bytes_of(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def push_counted(service, name, path, folder):
    """Push a file through a proxy; return the version, and the bytes of both ways."""
    with cutting_proxy(urlsplit(service.url).netloc) as proxy:
        with Client(proxy.endpoint_url, cache_dir=folder / "cache", progress=False) as hub:
            version = hub.push(f"vision/{name}", path)
        return version, proxy.passed_bytes


def changed(state, which):
    """Return a state_dict with new numbers in the tensors that `which` chooses, and how many bytes those have."""
    names = [name for name in state if which(name)]
    tuned = OrderedDict((name, torch.randn_like(state[name]) if name in names else state[name]) for name in state)
    return tuned, bytes_of(state[name] for name in names)


def is_head(name):
    return name.split(".")[0] in {"fc", "classifier"} and not name.startswith(("classifier.0", "classifier.3"))


def is_head_or_statistic(name):
    return is_head(name) or "running_" in name


@pytest.mark.parametrize("which", [is_head, is_head_or_statistic])
def test_a_fine_tune_costs_what_changed_and_little_more(service, pushed, tmp_path, which):
    name, state = pushed
    tuned, changed_bytes = changed(state, which)
    torch.save(tuned, tmp_path / "model.pt")

    version, moved = push_counted(service, name, tmp_path / "model.pt", tmp_path)

    assert moved <= changed_bytes + 800 * len(state) + (64 << 10)
    with Client(service.url, cache_dir=tmp_path / "fresh", progress=False) as hub:
        [path] = hub.download(version.reference, tmp_path / "back")
    assert path.read_bytes() == (tmp_path / "model.pt").read_bytes()


def test_the_same_tensors_in_another_format_are_hardly_sent(service, pushed, tmp_path):
    name, state = pushed
    save_file(state, tmp_path / "model.safetensors")
    version, moved = push_counted(service, name, tmp_path / "model.safetensors", tmp_path)
    assert moved <= max(0.01 * version.size_bytes, 800 * len(state))
    assert "the rest was stored already" in " ".join(version.notices)


def test_the_same_file_again_is_not_sent(service, pushed, tmp_path):
    name, state = pushed
    torch.save(state, tmp_path / "model.pt")
    _, moved = push_counted(service, name, tmp_path / "model.pt", tmp_path)
    assert moved <= 800 * len(state)
