"""Issuers of jobs' JWTs: their keys, and those that are slow, away or not themselves."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from identity_issuer import new_key
from migrated import migrated_data
from signing_in import ROOT, pass_time, refused, wait_until
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.limits import CostlyLogins
from api.oidc import fetching
from api.settings import Settings


def test_a_new_key_is_found_and_an_unknown_one_asked_for_once_a_minute(ask, guarded, issuer, nightly):
    assert ask("GET", "whoami", token=issuer.sign()).status_code == 200
    issuer.keys = [new_key("second")]
    assert refused(ask("GET", "whoami", token=issuer.sign()))  # the keys were fetched within the last minute
    pass_time(guarded, issuer, 61)

    assert ask("GET", "whoami", token=issuer.sign()).status_code == 200
    for kid in ("third", "fourth", "fifth"):
        assert refused(ask("GET", "whoami", token=issuer.sign(key=new_key(kid))))
    assert issuer.asked.count("/jwks") == 2


def test_a_key_that_the_issuer_took_back_is_good_for_an_hour_at_most(ask, guarded, issuer, nightly):
    old = issuer.keys[0]
    assert ask("GET", "whoami", token=issuer.sign()).status_code == 200
    issuer.keys = [new_key("second")]
    pass_time(guarded, issuer, 3601)

    assert refused(ask("GET", "whoami", token=issuer.sign(key=old, jti="2")))


@pytest.mark.parametrize(
    "answer", [(500, b"{}"), (200, b"<html>"), (200, b"[]"), (302, b"http://127.0.0.1:1/"), (200, b" " * (2 << 20))]
)
@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks"])
def test_an_issuer_that_does_not_answer_as_it_should_is_named_and_left_alone(ask, issuer, nightly, path, answer):
    issuer.answer[path] = answer

    answers = [ask("GET", "whoami", token=issuer.sign(jti=str(number))) for number in range(3)]

    assert {(each.status_code, each.json()["code"]) for each in answers} == {(503, "identity_provider_unavailable")}
    assert issuer.asked.count(path) == 1


def test_an_issuer_that_calls_itself_otherwise_or_keeps_its_keys_in_the_open_is_not_believed(ask, issuer, nightly):
    issuer.description = {"jwks_uri": "http://keys.example.com/jwks"}
    assert ask("GET", "whoami", token=issuer.sign()).status_code == 503

    assert "https" in ask("GET", "whoami", token=issuer.sign()).json()["detail"]


def test_an_issuer_of_another_name_is_not_believed(ask, issuer, nightly):
    issuer.description = {"issuer": "https://elsewhere.example.com"}

    assert ask("GET", "whoami", token=issuer.sign()).status_code == 503


def test_a_slow_issuer_is_not_waited_for(ask, issuer, nightly, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.2)
    issuer.delay_seconds = 1.0

    assert ask("GET", "whoami", token=issuer.sign()).status_code == 503


def test_whoever_comes_by_a_known_key_waits_for_no_fetch_that_others_need(ask, guarded, issuer, nightly):
    assert ask("GET", "whoami", token=issuer.sign()).status_code == 200
    pass_time(guarded, issuer, 61)
    issuer.delay_seconds = 1.0
    unknown = [issuer.sign(header={"kid": f"unknown-{number}"}) for number in range(12)]

    with ThreadPoolExecutor(len(unknown)) as threads:
        waiting = [threads.submit(ask, "GET", "whoami", token=token) for token in unknown]
        wait_until(lambda: len(issuer.asked) == 3)
        let_in = ask("GET", "whoami", token=issuer.sign(jti="2"))
        still_waiting = [each for each in waiting if not each.done()]

    assert (let_in.status_code, len(still_waiting)) == (200, len(unknown))
    assert {each.result().status_code for each in waiting} == {401}


def test_a_fetch_that_takes_long_is_waited_for_by_one_and_the_others_are_told(ask, issuer, nightly, monkeypatch):
    monkeypatch.setattr("api.oidc.issuer.WAIT_SECONDS", 0.2)
    issuer.delay_seconds = 0.6

    with ThreadPoolExecutor(10) as threads:
        tokens = [issuer.sign(jti=str(number)) for number in range(10)]
        answers = list(threads.map(lambda token: ask("GET", "whoami", token=token), tokens))

    assert sorted(answer.status_code for answer in answers) == [200] + [503] * 9
    assert {answer.json().get("code") for answer in answers} == {None, "identity_provider_unavailable"}


def test_a_slow_issuer_keeps_no_other_and_no_sign_in_waiting(tmp_path, issuer, stranger):
    settings = {"teams": True, "token": ROOT, "job_issuers": f"{issuer.url},{stranger.url}"}
    settings |= {"public_url": "https://models.example.com", "oidc_issuer": stranger.url, "oidc_client_id": "models"}
    app = create_app(Settings(data=migrated_data(tmp_path), **settings))
    issuer.delay_seconds = 1.0

    with TestClient(app, base_url="https://models.example.com", follow_redirects=False) as client:

        def come(token):
            return client.get(f"{PREFIX}/whoami", headers={"Authorization": f"Bearer {token}"})

        with ThreadPoolExecutor(12) as threads:
            waiting = [threads.submit(come, issuer.sign(jti=str(number))) for number in range(12)]
            wait_until(lambda: issuer.asked)
            statuses = [come(stranger.sign()).status_code, client.get(f"{PREFIX}/sign-in").status_code]
            still_waiting = [each for each in waiting if not each.done()]

    assert (statuses, len(still_waiting)) == ([401, 303], len(waiting))


def test_a_flood_of_forged_jwts_is_stopped_before_they_are_verified(ask, guarded, issuer, nightly, monkeypatch):
    verified = []
    jobs = guarded.app.state.service.jobs
    verify = jobs.verify_at_once
    monkeypatch.setattr(jobs, "verify_at_once", lambda *given: verified.append(given) or verify(*given))
    guarded.app.state.service.callers.new_jwts = CostlyLogins(20)
    forged = new_key("first")

    answers = [ask("GET", "whoami", token=issuer.sign(key=forged, jti=str(number))) for number in range(40)]

    assert (answers[0].status_code, answers[-1].status_code) == (401, 429)
    assert len(verified) < 30
    assert ask("GET", "whoami").status_code == 200


def test_a_flood_of_jwts_is_stopped_while_their_issuer_is_away(ask, guarded, issuer, nightly):
    guarded.app.state.service.callers.new_jwts = CostlyLogins(20)
    issuer.answer["/jwks"] = (500, b"")
    token = issuer.sign()

    answers = [ask("GET", "whoami", token=token).status_code for _ in range(40)]

    assert (answers[0], answers[-1]) == (503, 429)


def test_the_new_jwts_of_a_cluster_are_let_in_at_once_whatever_a_revoked_token_does_there(ask, issuer, nightly):
    polling = [ask("GET", "whoami", token="wb_aaaaaaaaaaaaaaaa_" + "5" * 64).status_code for _ in range(80)]
    assert polling[-1] == 429
    issuer.delay_seconds = 0.3

    with ThreadPoolExecutor(100) as threads:
        tokens = [issuer.sign(jti=str(number)) for number in range(100)]
        answers = list(threads.map(lambda token: ask("GET", "whoami", token=token), tokens))

    assert [answer.status_code for answer in answers] == [200] * 100
