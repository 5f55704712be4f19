"""The wheel in environments that hold nothing but it and what it asks for."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from installation import Environment, bare_variables
from support.service import running

Install = Callable[[str], Environment]

# The first test waits until pip is done; one worker runs all, so that each environment is made once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("clean-install")]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A state_dict as `torch.save` writes it."""
    path = tmp_path / "model.pt"
    torch.save({"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.zeros(2)}, path)
    return path


def test_the_plain_install_brings_neither_torch_nor_a_server_package(install: Install) -> None:
    client = install("")
    heavy = ("torch", "numpy", "fastapi", "uvicorn", "sqlalchemy", "boto3", "minio")
    assert [name for name in heavy if client.has(name)] == []


def test_weighbridge_imports_without_torch_and_without_a_server_package(install: Install, tmp_path: Path) -> None:
    code = "from weighbridge import Client; print(Client.__name__)"
    ran = install("").run("python", "-W", "error", "-I", "-c", code, cwd=tmp_path)
    assert (ran.returncode, ran.stdout.strip()) == (0, "Client"), ran.stderr


def test_packages_called_api_and_storage_are_nowhere_on_the_path(install: Install) -> None:
    assert not install("[server]").has("api")
    assert not install("[server]").has("storage")


def test_inspect_reads_a_weight_file_without_torch(install: Install, weights: Path, tmp_path: Path) -> None:
    ran = install("").run("weighbridge", "inspect", str(weights), "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    shapes = {tensor["name"]: tensor["shape"] for tensor in json.loads(ran.stdout)["tensors"]}
    assert shapes == {"fc.weight": [2, 3], "fc.bias": [2]}


def test_serve_without_the_server_extra_says_how_to_get_it(install: Install, tmp_path: Path) -> None:
    ran = install("").run("weighbridge", "serve", cwd=tmp_path)
    assert ran.returncode != 0
    assert re.search(r"pip install .*weighbridge\[server\]", ran.stderr)
    assert "Traceback" not in ran.stderr


def test_the_server_extra_serves_without_torch(install: Install, tmp_path: Path) -> None:
    server = install("[server]")
    assert not server.has("torch")
    with running(tmp_path, [server.program("weighbridge"), "serve"], bare_variables()) as service:
        assert service.url


def test_an_installed_client_gets_back_the_bytes_that_it_pushed_to_an_installed_server(
    install: Install, weights: Path, tmp_path: Path
) -> None:
    client, serve = install(""), [install("[server]").program("weighbridge"), "serve"]
    with running(tmp_path, serve, bare_variables()) as service:
        variables = {"WEIGHBRIDGE_URL": service.url, "WEIGHBRIDGE_CACHE": str(tmp_path / "cache")}
        pushed = client.run("weighbridge", "push", "vision/tiny", str(weights), cwd=tmp_path, **variables)
        assert pushed.returncode == 0, pushed.stderr
        fetched = client.run("weighbridge", "download", "vision/tiny:1", "-o", "back", cwd=tmp_path, **variables)
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "back" / "model.pt").read_bytes() == weights.read_bytes()
