"""A service that believes one issuer of jobs, and a job's user."""

import pytest
from identity_issuer import new_key, running_issuer
from migrated import migrated_data
from signing_in import ROOT, asking, bind
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings


@pytest.fixture
def stranger():
    """An issuer that the service does not trust."""
    with running_issuer() as stranger:
        stranger.keys = [new_key("first")]
        yield stranger


@pytest.fixture
def guarded(tmp_path, issuer):
    app = create_app(Settings(data=migrated_data(tmp_path), teams=True, token=ROOT, job_issuers=issuer.url))
    with TestClient(app, base_url="http://models.example.com") as client:
        yield client


@pytest.fixture
def ask(guarded):
    return asking(guarded)


@pytest.fixture
def nightly(ask, issuer):
    """A job's user, bound to the issuer's subject `job`."""
    assert ask("PUT", "users/nightly").status_code == 201
    ask("PUT", "teams/vision")
    ask("PUT", "teams/vision/members/nightly", {"role": "writer"})
    return bind(ask, issuer)
