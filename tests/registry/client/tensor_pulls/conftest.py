"""A real service behind a proxy that counts, somebody who pushes to it, and somebody else who pulls."""

import uuid

import pytest
import torch
from faulty_proxy import faulty_proxy
from pulled_nets import Net

from registry.client.client import Client


@pytest.fixture
def name():
    return f"vision/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def base():
    torch.manual_seed(0)
    return Net().state_dict()


@pytest.fixture
def push(live_server, tmp_path):
    """Push a value by another client's cache, saved by torch or by safetensors; return the file."""

    def call(name, value, suffix=".pt", save=torch.save, **options):
        file = tmp_path / "pushed" / f"model{suffix}"
        file.parent.mkdir(exist_ok=True)
        save(value, file, **options)
        with Client(live_server.url, cache_dir=tmp_path / "pushing", progress=False) as client:
            client.push(name, file)
        return file

    return call


@pytest.fixture
def proxy(live_server):
    with faulty_proxy(live_server.url.removeprefix("http://")) as proxy:
        yield proxy


@pytest.fixture
def hub(proxy, tmp_path):
    with Client(proxy.url, cache_dir=tmp_path / "cache", progress=False) as client:
        yield client
