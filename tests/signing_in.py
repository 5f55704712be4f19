"""What the tests of single sign-on share: addresses, names of cookies, and what they do again and again."""

import re
import time

from starlette.testclient import TestClient

from api.app import PREFIX

ROOT = "the administrator's token of this test"
PUBLIC = "https://models.example.com"
SIGN_IN = f"{PREFIX}/sign-in"
SESSION = "__Host-weighbridge_session"
ATTEMPT = "__Host-weighbridge_sign_in"
SAME = {"Sec-Fetch-Site": "same-origin"}


def asking(client: TestClient):
    """Return a function that asks as the administrator, or as the holder of a token."""

    def ask(method, path, body=None, *, token=ROOT):
        return client.request(method, f"{PREFIX}/{path}", json=body, headers={"Authorization": f"Bearer {token}"})

    return ask


def token_on(answer):
    assert answer.status_code == 200, answer.text
    return re.search(r"wb_[a-z2-7]{16}_[0-9a-f]{64}", answer.text)[0]


def bind(ask, issuer, user="nightly", **more):
    body = {"issuer": issuer.url, "subject": "job", "scopes": ["read", "push"], "targets": ["vision"], **more}
    made = ask("POST", f"users/{user}/identities", body)
    assert made.status_code == 201, made.text
    return made.json()


def pass_time(guarded, issuer, seconds):
    """Let the service's clock for an issuer go forward."""
    guarded.app.state.service.jobs._issuers[issuer.url]._clock = lambda: time.monotonic() + seconds


def wait_until(holds):
    until = time.monotonic() + 10
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    assert holds()


def refused(answer):
    return answer.status_code == 401 and answer.json()["code"] == "authentication_required"
