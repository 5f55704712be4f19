"""What every test needs before anything imports torchvision."""

import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest
from support import torchvision_operators
from support.service import Service, running

# A laptop looks for new examples at each run; CI tries the same ones, so that a change is judged by itself.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI") == "true":
    hypothesis.settings.load_profile("ci")

torchvision_operators.declare()


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real server process on SQLite and a folder, open on loopback, shared by the tests of one worker."""
    with running(tmp_path_factory.mktemp("service"), [sys.executable, "-m", "api", "serve"]) as service:
        yield service
