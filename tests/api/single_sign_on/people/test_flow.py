"""Signing in by the authorization code flow with PKCE, and the answers that it refuses."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from identity_issuer import new_key
from signing_in import ATTEMPT, PUBLIC, SESSION, SIGN_IN

from api.app import PREFIX


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
