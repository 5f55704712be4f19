"""The real app on real stores: SQLite and a folder for most tests, one installation a test module."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from embedded import API, Installation, make_weights
from migrated import migrated_data
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def no_settings_from_outside() -> None:
    """Keep what the developer's shell says of Weighbridge out of the tests."""
    for name in [name for name in os.environ if name.startswith("WEIGHBRIDGE_")]:
        del os.environ[name]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An embedded installation that the tests of a module share; each pushes to a model of its own."""
    folder = tmp_path_factory.mktemp("data")
    app = create_app(
        Settings(data=migrated_data(folder), max_artifact_bytes=8 << 20, max_artifacts=20, max_metadata_bytes=16 << 10)
    )
    with TestClient(app, base_url="http://localhost") as client:
        yield Installation(app, client, folder)


@pytest.fixture
def client(installation: Installation) -> TestClient:
    """A client of the installation."""
    return installation.client


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """The route of a model of the test's own."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return f"{API}/models/vision/{name}"


@pytest.fixture(scope="session")
def weights() -> bytes:
    """A small state_dict."""
    return make_weights()


@pytest.fixture
def pushed(client: TestClient, model: str, weights: bytes) -> dict[str, Any]:
    """Version 1 of the test's model: `model.pt`."""
    answer = client.put(f"{model}/upload/model.pt", content=weights)
    assert answer.status_code == 201, answer.text
    return answer.json()
