"""Settings of single sign-on, judged when the service starts."""

import sys

import pytest
from signing_in import PUBLIC
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from registry.errors import ConfigurationError

WRONG = [
    {"oidc_client_id": None},
    {"public_url": None},
    {"public_url": "http://models.example.com"},
    {"public_url": "https://models.example.com/registry"},
    {"public_url": "models.example.com"},
    {"oidc_issuer": "http://id.example.com"},
    {"oidc_issuer": None},
    {"oidc_scopes": "profile"},
    {"oidc_groups": "vision"},
    {"oidc_groups": "[]"},
    {"oidc_groups": '{"ml": "vision:owner"}'},
    {"oidc_groups": '{"ml": "vision"}'},
    {"oidc_groups": '{"ml": "api:reader"}'},
    {"oidc_groups": '{"ml": 3}'},
    {"oidc_new_users": "groups"},
    {"teams": False},
    {"job_issuers": "https://id.example.com", "job_audience": "models"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_settings_that_make_no_sense_are_refused_at_start(tmp_path, wrong):
    right = {"teams": True, "public_url": PUBLIC, "oidc_issuer": "https://id.example.com", "oidc_client_id": "models"}
    app = create_app(Settings(data=tmp_path, **{**right, **wrong}))

    with pytest.raises(ConfigurationError) as raised, TestClient(app):
        pass
    assert "WEIGHBRIDGE_" in raised.value.detail


def test_without_the_packages_the_service_says_which_command_installs_them(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("api.oidc.provider", "api.oidc.jobs"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "joserfc.errors", None)

    for settings in (
        {"public_url": PUBLIC, "oidc_issuer": "https://id.example.com", "oidc_client_id": "models"},
        {"job_issuers": "https://id.example.com"},
    ):
        app = create_app(Settings(data=tmp_path, teams=True, **settings))
        with pytest.raises(ConfigurationError, match=r"pip install 'weighbridge\[oidc\]'"), TestClient(app):
            pass


@pytest.mark.parametrize(
    "settings",
    [
        {"job_issuers": "https://gitlab.example.com"},
        {"teams": True, "job_issuers": "http://gitlab.example.com"},
        {"teams": True, "job_issuers": "gitlab.example.com"},
    ],
)
def test_settings_that_would_let_in_too_many_are_refused(tmp_path, settings):
    with (
        pytest.raises(ConfigurationError),
        TestClient(create_app(Settings(data=tmp_path, **settings)), base_url="http://localhost"),
    ):
        pass
