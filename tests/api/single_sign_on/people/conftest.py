"""The service as browsers see it."""

import json

import pytest
from migrated import migrated_data
from signing_in import PUBLIC, ROOT, SIGN_IN, asking
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings

GROUPS = {"ml": "vision:writer", "ml-leads": "vision:admin", "nlp": "text:reader", "platform": "administrator"}


@pytest.fixture
def serve(tmp_path, issuer):
    """Return a function that starts the service; a call more is one more replica of it."""
    open_clients = []

    def serve(**more):
        settings = {"teams": True, "token": ROOT, "public_url": PUBLIC, "oidc_issuer": issuer.url}
        settings |= {"oidc_client_id": "models", "oidc_client_secret": "s%cret:+", "oidc_groups": json.dumps(GROUPS)}
        client = TestClient(
            create_app(Settings(data=migrated_data(tmp_path), **settings, **more)),
            base_url=PUBLIC,
            follow_redirects=False,
        )
        open_clients.append(client)
        return client.__enter__()

    yield serve
    for client in open_clients:
        client.__exit__(None, None, None)


@pytest.fixture
def browser(serve):
    return serve()


@pytest.fixture
def ask(browser):
    return asking(browser)


@pytest.fixture
def sign_in(browser, issuer):
    """Return a function that signs in as whoever the issuer says, and returns where the browser ends."""

    def sign_in(browser=browser, next_path="", **claims):
        issuer.claims |= claims
        begun = browser.get(SIGN_IN, params={"next": next_path} if next_path else {})
        assert begun.status_code == 303, begun.text
        return browser.get(issuer.authorize(begun.headers["location"]))

    return sign_in
