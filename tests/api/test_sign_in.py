"""People who sign in with a browser at an OpenID Connect provider, and who stays out."""

import base64
import json
import re
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
from identity_issuer import new_key, running_issuer
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.settings import Settings
from registry.errors import ConfigurationError

ROOT = "the administrator's token of this test"
PUBLIC = "https://models.example.com"
SIGN_IN = f"{PREFIX}/sign-in"
SESSION = "__Host-weighbridge_session"
ATTEMPT = "__Host-weighbridge_sign_in"
GROUPS = {"ml": "vision:writer", "ml-leads": "vision:admin", "nlp": "text:reader", "platform": "administrator"}
SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def issuer():
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def serve(tmp_path, issuer):
    """Return a function that starts the service; a call more is one more replica of it."""
    open_clients = []

    def serve(**more):
        settings = {"teams": True, "token": ROOT, "public_url": PUBLIC, "oidc_issuer": issuer.url}
        settings |= {"oidc_client_id": "models", "oidc_client_secret": "s%cret:+", "oidc_groups": json.dumps(GROUPS)}
        client = TestClient(
            create_app(Settings(data=tmp_path, **settings, **more)), base_url=PUBLIC, follow_redirects=False
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
    """Return a function that asks as the administrator, or as the holder of a token."""

    def ask(method, path, body=None, *, token=ROOT):
        return browser.request(method, f"{PREFIX}/{path}", json=body, headers={"Authorization": f"Bearer {token}"})

    return ask


@pytest.fixture
def sign_in(browser, issuer):
    """Return a function that signs in as whoever the issuer says, and returns where the browser ends."""

    def sign_in(browser=browser, next_path="", **claims):
        issuer.claims |= claims
        begun = browser.get(SIGN_IN, params={"next": next_path} if next_path else {})
        assert begun.status_code == 303, begun.text
        return browser.get(issuer.authorize(begun.headers["location"]))

    return sign_in


def set_cookies(answer):
    return answer.headers.get_list("set-cookie")


def test_somebody_new_signs_in_and_is_a_user_with_a_session(browser, ask, sign_in):
    ended = sign_in(groups=["ml"])

    assert (ended.status_code, ended.headers["location"]) == (303, f"{SIGN_IN}/done")
    who = browser.get(f"{PREFIX}/whoami").json()
    assert (who["name"], who["roles"], who["administrator"]) == ("ada", {"vision": "writer"}, False)
    assert who["scopes"] == ["admin", "promote", "push", "read"]
    (session,) = ask("GET", "tokens?user=ada").json()["items"]
    assert (session["kind"], session["name"], session["subject"]) == ("session", "signed in by browser", "1")
    (entry,) = ask("GET", "audit?action=user.sign_in").json()["items"]
    assert (entry["actor"], entry["token"]) == ("ada", who["token"])


def test_the_cookies_are_for_this_host_over_tls_and_no_script(browser, sign_in):
    begun = set_cookies(browser.get(SIGN_IN))
    ended = set_cookies(sign_in())

    assert [each.partition("=")[0] for each in begun + ended] == [ATTEMPT, ATTEMPT, SESSION]
    for cookie in (*begun, *ended):
        assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
    assert "Max-Age=600" in begun[0]
    assert "Max-Age=0" in ended[0]
    assert "Max-Age=43200" in ended[1]


def test_what_is_asked_of_the_provider_is_new_each_time_and_names_no_host_of_the_request(browser, issuer):
    queries = [
        parse_qs(urlsplit(browser.get(SIGN_IN, headers={"Host": host}).headers["location"]).query)
        for host in ("models.example.com", "evil.example.com")
    ]

    for query in queries:
        assert query["redirect_uri"] == [f"{PUBLIC}{SIGN_IN}/callback"]
        assert (query["response_type"], query["code_challenge_method"]) == (["code"], ["S256"])
        assert query["scope"] == ["openid profile email"]
        assert "s%cret" not in str(query)
    for name in ("state", "nonce", "code_challenge"):
        assert queries[0][name] != queries[1][name]
        assert len(queries[0][name][0]) >= 43


def test_any_replica_ends_a_sign_in(serve, issuer, sign_in):
    one, other = serve(), serve()
    url = issuer.authorize(one.get(SIGN_IN).headers["location"])

    ended = other.get(url, headers={"Cookie": f"{ATTEMPT}={one.cookies[ATTEMPT]}"})

    assert ended.headers["location"] == f"{SIGN_IN}/done"


def test_the_second_sign_in_is_the_same_user_whatever_they_are_called_by_then(browser, sign_in):
    sign_in()
    sign_in(preferred_username="countess")

    assert browser.get(f"{PREFIX}/whoami").json()["name"] == "ada"


def test_a_provider_whose_codes_are_jwts_signs_people_in_and_no_other_url_holds_one(browser, issuer, sign_in):
    issuer.new_code = issuer.sign

    assert sign_in().headers["location"] == f"{SIGN_IN}/done"
    for path in (SIGN_IN, f"{SIGN_IN}/callback/", f"{SIGN_IN}/done"):
        assert browser.get(path, params={"code": issuer.sign()}).status_code == 422


def test_a_callback_is_good_once(browser, issuer):
    url = issuer.authorize(browser.get(SIGN_IN).headers["location"])
    cookie = {"Cookie": f"{ATTEMPT}={browser.cookies[ATTEMPT]}"}

    assert browser.get(url, headers=cookie).status_code == 303
    assert browser.get(url).status_code == 401  # the browser forgot it
    browser.cookies.clear()
    assert browser.get(url, headers=cookie).status_code == 401  # the provider does not give twice


def test_an_answer_that_belongs_to_no_question_of_this_browser_is_refused(browser, issuer):
    url = issuer.authorize(browser.get(SIGN_IN).headers["location"])

    for other in (re.sub(r"state=[^&]+", "state=x", url), re.sub(r"&state=[^&]+", "", url)):
        assert browser.get(other).status_code == 401
    browser.cookies.clear()
    answer = browser.get(url)
    assert answer.status_code == 401
    assert "Begin again" in answer.text
    assert SESSION not in browser.cookies
    assert "/token" not in issuer.asked


def test_a_code_of_another_browser_is_worth_nothing_here(serve, issuer):
    victim, attacker = serve(), serve()
    stolen = parse_qs(urlsplit(issuer.authorize(attacker.get(SIGN_IN).headers["location"])).query)["code"][0]
    own = issuer.authorize(victim.get(SIGN_IN).headers["location"])

    answer = victim.get(re.sub(r"code=[^&]+", f"code={stolen}", own))

    assert answer.status_code == 401
    assert SESSION not in victim.cookies


LIES = {
    "nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "audience": {"aud": "somebody else"},
    "audiences without azp": {"aud": ["models", "other"]},
    "azp": {"aud": ["models", "other"], "azp": "other"},
    "issuer": {"iss": "https://elsewhere.example.com"},
    "expired": {"exp": 1},
    "no end": {"exp": None},
    "no subject": {"sub": None},
    "endless subject": {"sub": "x" * 501},
    "subject that cannot be shown": {"sub": "1\0"},
}


@pytest.mark.parametrize("claims", LIES.values(), ids=LIES)
def test_an_id_token_is_refused_with_a_wrong(browser, ask, sign_in, claims):
    answer = sign_in(**claims)

    assert answer.status_code == 401
    assert "text/html" in answer.headers["content-type"]
    assert SESSION not in browser.cookies
    assert ask("GET", "users").json()["items"] == []
    (entry,) = ask("GET", "audit").json()["items"]
    assert entry["action"] == "login.fail"


def test_an_id_token_of_another_key_is_refused(browser, issuer, monkeypatch, sign_in):
    forger = new_key("first")
    sign = issuer.sign
    monkeypatch.setattr(issuer, "sign", lambda **claims: sign(**claims, key=forger))

    assert sign_in().status_code == 401


def test_an_answer_of_another_provider_is_refused(browser, issuer):
    url = issuer.authorize(browser.get(SIGN_IN).headers["location"])

    assert browser.get(re.sub(r"iss=[^&]+", "iss=https://evil.example.com", url)).status_code == 401


def test_whoever_says_no_at_the_provider_is_told_so(browser, issuer):
    state = parse_qs(urlsplit(browser.get(SIGN_IN).headers["location"]).query)["state"][0]

    answer = browser.get(f"{SIGN_IN}/callback", params={"error": "<script>access_denied", "state": state})

    assert answer.status_code == 401
    assert "<script>" not in answer.text


@pytest.mark.parametrize("answer", [(500, b"oops"), (200, b"[]"), (200, b"{}"), (400, b'{"error": "invalid_client"}')])
def test_a_provider_that_gives_nothing_for_the_code_lets_nobody_in(browser, issuer, sign_in, answer):
    issuer.answer["/token"] = answer

    assert sign_in().status_code in {401, 503}
    assert SESSION not in browser.cookies


def test_a_provider_that_is_away_is_named(browser, issuer):
    issuer.answer["/.well-known/openid-configuration"] = (503, b"")

    answer = browser.get(SIGN_IN)

    assert answer.status_code == 503
    assert "does not answer" in answer.text


@pytest.mark.parametrize("path", ["/docs", "/api/v1/models?team=vision&sort=name"])
def test_the_browser_goes_on_to_where_it_was(sign_in, path):
    assert sign_in(next_path=path).headers["location"] == path


ELSEWHERE = ["https://evil.example.com", "//evil.example.com", "/\\evil.example.com", "\\\\evil", "javascript:alert(1)"]


@pytest.mark.parametrize("path", [*ELSEWHERE, "/\t/evil.example.com", "evil", "/a\r\nSet-Cookie: x=y", " //evil"])
def test_the_browser_is_sent_to_no_other_site(browser, path):
    answer = browser.get(SIGN_IN, params={"next": path})

    assert answer.status_code == 422
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_changed_cookie_sends_the_browser_to_no_other_site(browser, issuer, path):
    url = issuer.authorize(browser.get(SIGN_IN).headers["location"])
    attempt = json.loads(base64.urlsafe_b64decode(browser.cookies[ATTEMPT].strip('"')))
    browser.cookies.clear()
    changed = base64.urlsafe_b64encode(json.dumps(attempt | {"next": path}).encode()).decode()

    answer = browser.get(url, headers={"Cookie": f"{ATTEMPT}={changed}"})

    assert "location" not in answer.headers


def test_a_user_who_is_there_already_is_never_taken_over(browser, ask, sign_in, issuer):
    ask("PUT", "users/ada", {"administrator": True})

    answer = sign_in()

    assert answer.status_code == 403
    assert f"weighbridge user trust ada --sign-in --issuer {issuer.url} --subject 1" in answer.text
    assert SESSION not in browser.cookies
    assert ask("GET", "users/ada/identities").json()["items"] == []
    bound = ask("POST", "users/ada/identities", {"issuer": issuer.url, "subject": "1", "use": "sign_in"})
    assert bound.status_code == 201
    assert sign_in().status_code == 303
    assert browser.get(f"{PREFIX}/whoami").json()["administrator"]


def test_an_identity_for_jobs_does_not_sign_in(browser, ask, sign_in, issuer):
    ask("PUT", "users/nightly")
    ask("POST", "users/nightly/identities", {"issuer": issuer.url, "subject": "1", "scopes": ["read"]})

    assert sign_in().status_code == 403


def test_a_disabled_user_stays_out_with_their_session(browser, ask, sign_in):
    sign_in()
    ask("PATCH", "users/ada", {"disabled": True})

    assert browser.get(f"{PREFIX}/whoami").status_code == 401
    assert sign_in().status_code == 403


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "ada@example.com"}, "ada"),
        ({"preferred_username": "Ada Lovelace"}, "Ada-Lovelace"),
        ({"preferred_username": "EXAMPLE\\ada"}, "EXAMPLE-ada"),
    ],
)
def test_a_name_is_made_one_that_users_have(browser, sign_in, claims, name):
    sign_in(**claims)

    assert browser.get(f"{PREFIX}/whoami").json()["name"] == name


@pytest.mark.parametrize("name", [None, "", "@", "operator", "token@example.com", 7, ["ada"], "é", "a" * 97])
def test_a_name_that_no_user_has_is_refused_with_what_an_administrator_does(ask, sign_in, name):
    answer = sign_in(preferred_username=name)

    assert answer.status_code == 403
    assert "weighbridge user trust NAME --sign-in" in answer.text
    assert ask("GET", "users").json()["items"] == []


def test_who_becomes_a_user_is_for_the_administrator_to_say(serve, sign_in):
    nobody, members = serve(oidc_new_users="nobody"), serve(oidc_new_users="groups")

    assert sign_in(nobody, groups=["ml"]).status_code == 403
    assert sign_in(members, groups=["others"]).status_code == 403
    assert sign_in(members, groups=["ml"]).status_code == 303
    assert sign_in(nobody).status_code == 303


def test_groups_give_roles_and_take_them_back(browser, ask, sign_in):
    def roles():
        who = browser.get(f"{PREFIX}/whoami").json()
        return who["roles"], who["administrator"]

    sign_in(groups=["ml", "ml-leads", "unknown"])
    assert roles() == ({"vision": "admin"}, False)
    sign_in(groups=["ml", "nlp", "platform"])
    assert roles() == ({"text": "reader", "vision": "writer"}, True)
    sign_in(groups="nlp")
    assert roles() == ({"text": "reader"}, False)
    sign_in(groups=None)
    assert roles() == ({}, False)
    told = [
        (entry["action"], entry["actor"], entry["team"], entry["detail"].get("role"))
        for entry in reversed(ask("GET", "audit").json()["items"])
        if entry["action"].startswith("member.")
    ]
    assert told == [
        ("member.set", "installation", "vision", "admin"),
        ("member.set", "installation", "text", "reader"),
        ("member.set", "installation", "vision", "writer"),
        ("member.remove", "installation", "vision", None),
        ("member.remove", "installation", "text", None),
    ]


def test_what_was_given_by_hand_is_not_for_groups_to_change(browser, ask, sign_in):
    sign_in(groups=["ml"])
    ask("PUT", "teams/vision/members/ada", {"role": "maintainer"})
    ask("PATCH", "users/ada", {"administrator": True})
    sign_in(groups=["ml", "platform"])
    sign_in(groups=[])

    who = browser.get(f"{PREFIX}/whoami").json()
    assert (who["roles"], who["administrator"]) == ({"vision": "maintainer"}, True)


def test_what_the_id_token_lacks_is_asked_of_userinfo_about_the_same_person(browser, issuer, sign_in):
    issuer.userinfo = {"sub": "1", "preferred_username": "grace", "groups": ["ml"]}
    issuer.claims = {"sub": "1"}
    sign_in()

    who = browser.get(f"{PREFIX}/whoami").json()
    assert (who["name"], who["roles"]) == ("grace", {"vision": "writer"})
    issuer.userinfo["sub"] = "2"
    assert sign_in().status_code == 401


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


def token_on(answer):
    assert answer.status_code == 200, answer.text
    return re.search(r"wb_[a-z2-7]{16}_[0-9a-f]{64}", answer.text)[0]


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


def test_a_flood_of_callbacks_does_not_reach_the_provider(browser, issuer):
    browser.get(SIGN_IN)
    attempt = browser.cookies[ATTEMPT]
    state = json.loads(base64.urlsafe_b64decode(attempt.strip('"')))["state"]
    url = f"{SIGN_IN}/callback?code=x&state={state}"

    answers = [browser.get(url).status_code for _ in range(70)]

    assert answers.count(429) > 5
    assert issuer.asked.count("/token") < 66


def test_a_flood_of_callbacks_is_stopped_while_the_provider_is_away(browser, issuer):
    issuer.answer["/token"] = (500, b"")
    kept = {"state": "made", "nonce": "up", "verifier": "by anybody", "next": ""}
    browser.cookies.set(ATTEMPT, base64.urlsafe_b64encode(json.dumps(kept).encode()).decode())

    answers = [browser.get(f"{SIGN_IN}/callback?code=x&state=made").status_code for _ in range(80)]

    assert (answers[0], answers[-1]) == (503, 429)
    assert issuer.asked.count("/token") < 70


def test_callbacks_count_as_requests_of_their_address(serve):
    browser = serve(requests_per_minute=5)

    answers = [browser.get(f"{SIGN_IN}/callback") for _ in range(8)]

    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    assert {answer.headers["www-authenticate"] for answer in answers[:5]} == {"Bearer"}
    assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in answers[5:])


def test_signing_in_goes_on_whatever_a_revoked_token_does_at_that_address(ask, sign_in):
    polling = [ask("GET", "whoami", token="wb_aaaaaaaaaaaaaaaa_" + "5" * 64).status_code for _ in range(80)]

    assert (polling[-1], sign_in().status_code) == (429, 303)


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
