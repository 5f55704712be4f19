"""Sessions of browsers: what they may do, what ends with them, and other sites that would use them."""

import pytest
from signing_in import PUBLIC, ROOT, SAME, SESSION, SIGN_IN, token_on
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.settings import Settings


def test_signing_out_ends_the_session_and_nothing_that_it_made(browser, ask, sign_in):
    sign_in()
    session = browser.cookies[SESSION]
    made = browser.post(f"{PREFIX}/tokens", json={"name": "x"}, headers=SAME).json()["token"]
    lasting = token_on(browser.post(f"{SIGN_IN}/token", headers=SAME))

    left = browser.post(f"{PREFIX}/sign-out", headers=SAME)

    assert left.status_code == 204
    assert SESSION not in browser.cookies
    assert browser.get(f"{PREFIX}/whoami").status_code == 401
    assert [ask("GET", "whoami", token=each).status_code for each in (session, made, lasting)] == [401, 200, 200]


@pytest.mark.parametrize("leaves", [False, True])
def test_revoking_a_stolen_session_ends_the_command_lines_token_that_was_made_with_it(browser, ask, sign_in, leaves):
    sign_in()
    session = browser.get(f"{PREFIX}/whoami").json()["token"]
    lasting = token_on(browser.post(f"{SIGN_IN}/token", headers=SAME))
    child = ask("POST", "tokens", {"name": "x"}, token=lasting).json()["token"]
    if leaves:
        browser.post(f"{PREFIX}/sign-out", headers=SAME)

    assert ask("DELETE", f"tokens/{session}").status_code == 200

    assert [ask("GET", "whoami", token=each).status_code for each in (lasting, child)] == [401, 401]


def test_the_command_lines_token_is_shown_once_and_ends_with_the_identity(browser, ask, sign_in, issuer):
    sign_in()
    answer = browser.post(f"{SIGN_IN}/token", headers=SAME)
    token = token_on(answer)

    assert answer.headers["cache-control"] == "no-store"
    who = ask("GET", "whoami", token=token).json()
    assert (who["name"], who["scopes"]) == ("ada", ["admin", "promote", "push", "read"])
    assert token.rpartition("_")[2] not in browser.get(f"{SIGN_IN}/done").text
    (identity,) = ask("GET", "users/ada/identities").json()["items"]
    ask("DELETE", f"users/ada/identities/{identity['id']}")
    assert ask("GET", "whoami", token=token).status_code == 401
    assert browser.get(f"{PREFIX}/whoami").status_code == 401


def test_only_a_session_makes_a_lasting_token_and_signs_out(browser, ask, sign_in):
    sign_in()
    narrow = browser.post(f"{PREFIX}/tokens", json={"name": "x", "scopes": ["read"]}, headers=SAME).json()["token"]
    browser.cookies.clear()

    for path in ("sign-in/token", "sign-out"):
        for token in (narrow, ROOT):
            assert ask("POST", path, token=token).status_code == 409


FOREIGN = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example.com"},
    {"Origin": "null"},
    {"Origin": "http://models.example.com"},
    {"Origin": PUBLIC, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "same-origin"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_another_site_changes_nothing_with_somebodys_session(browser, ask, sign_in, headers):
    sign_in(groups=["platform"])

    for method, path in [("POST", "tokens"), ("PUT", "users/eve"), ("DELETE", "users/ada/identities/1")]:
        answer = browser.request(method, f"{PREFIX}/{path}", json={"name": "x"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    for path in ("sign-in/token", "sign-out"):
        assert browser.post(f"{PREFIX}/{path}", headers=headers).status_code == 403
    assert len(ask("GET", "tokens?user=ada").json()["items"]) == 1


@pytest.mark.parametrize("headers", [SAME, {"Origin": PUBLIC}], ids=str)
def test_the_services_own_pages_may_change_things(browser, sign_in, headers):
    sign_in()

    assert browser.post(f"{PREFIX}/tokens", json={"name": "x"}, headers=headers).status_code == 201


def test_a_header_goes_before_the_cookie(browser, ask, sign_in):
    sign_in()

    assert ask("GET", "whoami").json()["name"] == "token"
    assert ask("GET", "whoami", token="wrong").status_code == 401
    assert browser.get(f"{PREFIX}/whoami", headers={"Authorization": "Basic x"}).status_code == 401


def test_the_page_at_the_end_says_who_one_is_and_lets_nothing_in(browser, sign_in):
    assert browser.get(f"{SIGN_IN}/done").headers["location"] == SIGN_IN
    sign_in(groups=["ml"])

    page = browser.get(f"{SIGN_IN}/done")

    assert "Signed in as ada" in page.text
    assert "writer of vision" in page.text
    assert f"weighbridge login {PUBLIC}" in page.text
    policy = page.headers["content-security-policy"]
    for rule in ("default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    # With no referrer at all, browsers would send the page's own forms with `Origin: null`.
    assert page.headers.get_list("referrer-policy") == ["same-origin"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in page.text
    assert page.headers["cache-control"] == "no-store"


def test_whoever_has_no_token_is_told_where_to_sign_in(browser):
    answer = browser.get(f"{PREFIX}/whoami")

    assert answer.json()["sign_in"] == f"{PUBLIC}{SIGN_IN}"
    assert browser.get(PREFIX, headers={"Authorization": f"Bearer {ROOT}"}).json()["sign_in"] == f"{PUBLIC}{SIGN_IN}"


def test_a_service_without_single_sign_on_knows_no_cookie_and_says_how_to_come_in(tmp_path):
    with TestClient(create_app(Settings(data=tmp_path, teams=True, token=ROOT)), base_url=PUBLIC) as browser:
        answer = browser.get(f"{PREFIX}/whoami", headers={"Cookie": f"{SESSION}={ROOT}; weighbridge_session={ROOT}"})
        page = browser.get(SIGN_IN)

    assert answer.status_code == 401
    assert "sign_in" not in answer.json()
    assert page.status_code == 404
