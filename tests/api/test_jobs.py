"""Jobs that come with a JWT of their CI or cluster: who is let in, and whatever else such a JWT may be."""

import base64
import hashlib
import hmac
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from identity_issuer import new_key, running_issuer, sign_by_hand
from joserfc import jwt
from joserfc.jwk import OctKey
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.limits import CostlyLogins
from api.oidc import fetching
from api.settings import Settings
from registry.errors import ConfigurationError

ROOT = "the administrator's token of this test"


@pytest.fixture
def issuer():
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def stranger():
    """An issuer that the service does not trust."""
    with running_issuer() as stranger:
        stranger.keys = [new_key("first")]
        yield stranger


@pytest.fixture
def guarded(tmp_path, issuer):
    app = create_app(Settings(data=tmp_path, teams=True, token=ROOT, job_issuers=issuer.url))
    with TestClient(app, base_url="http://models.example.com") as client:
        yield client


@pytest.fixture
def ask(guarded):
    """Return a function that asks as the holder of a token."""

    def ask(method, path, body=None, *, token=ROOT):
        return guarded.request(method, f"{PREFIX}/{path}", json=body, headers={"Authorization": f"Bearer {token}"})

    return ask


@pytest.fixture
def nightly(ask, issuer):
    """A job's user, bound to the issuer's subject `job`."""
    assert ask("PUT", "users/nightly").status_code == 201
    ask("PUT", "teams/vision")
    ask("PUT", "teams/vision/members/nightly", {"role": "writer"})
    return bind(ask, issuer)


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


def test_a_job_is_the_user_that_its_subject_is_bound_to_with_the_scopes_of_the_binding(ask, issuer, nightly):
    token = issuer.sign()

    who = ask("GET", "whoami", token=token).json()

    assert (who["name"], who["roles"], who["administrator"]) == ("nightly", {"vision": "writer"}, False)
    assert (who["scopes"], who["targets"]) == (["push", "read"], ["vision"])
    (row,) = ask("GET", "tokens?user=nightly").json()["items"]
    assert (row["kind"], row["issuer"], row["subject"], row["prefix"]) == ("job", issuer.url, "job", who["token"])
    assert ask("PATCH", "teams/vision", {}, token=token).status_code == 403


def test_the_keys_are_fetched_once_and_a_jwt_is_verified_once(ask, issuer, nightly):
    token = issuer.sign()

    assert {ask("GET", "whoami", token=each).status_code for each in (token, token, issuer.sign(jti="2"))} == {200}

    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # by RFC 9864, and issuers use it all the same
@pytest.mark.parametrize(
    ("kind", "alg"), [("RSA", "PS256"), ("EC", "ES256"), ("Ed25519", "Ed25519"), ("Ed25519", "EdDSA")]
)
def test_every_kind_of_public_key_is_known(ask, issuer, nightly, kind, alg):
    issuer.keys = [new_key("other", kind)]

    assert ask("GET", "whoami", token=issuer.sign(alg=alg)).status_code == 200


NOW = int(time.time())
FORGED = {
    "for another service": {"aud": "somebody else"},
    "for nobody": {"aud": None},
    "expired": {"exp": NOW - 120, "iat": NOW - 300},
    "without an end": {"exp": None},
    "with an end that is no number": {"exp": "never"},
    "with an end that no number reaches": {"exp": float("inf")},
    "living for longer than a day": {"exp": NOW + 90_000},
    "without a beginning": {"iat": None},
    "of tomorrow": {"iat": NOW + 86_000, "exp": NOW + 86_300},
    "not valid yet": {"nbf": NOW + 3600},
    "without a subject": {"sub": None},
    "whose subject is a list": {"sub": ["job"]},
    "whose subject is longer than any that is bound": {"sub": "x" * 501},
    "whose subject cannot be shown": {"sub": "job\0"},
    "whose subject is bound to nobody": {"sub": "job2"},
}


@pytest.mark.parametrize("claims", FORGED.values(), ids=FORGED)
def test_a_jwt_is_refused_that_is(ask, issuer, nightly, claims):
    answer = ask("GET", "whoami", token=issuer.sign(**claims))

    assert refused(answer)
    assert "log" in answer.json()["detail"]
    assert ask("GET", "tokens?user=nightly").json()["items"] == []


def test_a_jwt_without_a_signature_is_refused(ask, issuer, nightly):
    header, claims, _ = issuer.sign().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"first"}').decode().rstrip("=")

    assert refused(ask("GET", "whoami", token=f"{none}.{claims}."))
    assert refused(ask("GET", "whoami", token=f"{header}.{claims}."))


def test_a_jwt_signed_with_the_public_key_as_a_shared_secret_is_refused(ask, issuer, nightly):
    public = issuer.keys[0].as_pem(private=False)
    claims = json.loads(base64.urlsafe_b64decode(issuer.sign().split(".")[1] + "=="))
    parts = [json.dumps({"alg": "HS256", "kid": "first"}), json.dumps(claims)]
    signed = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    mac = hmac.new(public, signed.encode(), hashlib.sha256).digest()

    assert refused(ask("GET", "whoami", token=f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"))


def test_a_shared_key_that_an_issuer_publishes_signs_nothing(ask, issuer, nightly):
    shared = OctKey.generate_key(256, {"kid": "shared"})
    issuer.answer["/jwks"] = (200, json.dumps({"keys": [shared.as_dict(private=True)]}).encode())
    claims = {"iss": issuer.url, "aud": "weighbridge", "sub": "job", "iat": NOW, "exp": NOW + 300}

    assert refused(ask("GET", "whoami", token=jwt.encode({"alg": "HS256", "kid": "shared"}, claims, shared)))


def test_a_jwt_signed_by_another_key_of_the_same_name_is_refused(ask, issuer, nightly):
    assert refused(ask("GET", "whoami", token=issuer.sign(key=new_key("first"))))


def test_claims_that_were_changed_are_refused(ask, issuer, nightly):
    header, _, signature = issuer.sign(sub="job2").split(".")
    claims = issuer.sign().split(".")[1]

    assert refused(ask("GET", "whoami", token=f"{header}.{claims}.{signature}"))


def test_a_jwt_that_calls_something_critical_is_refused(ask, issuer, nightly):
    claims = {"iss": issuer.url, "aud": "weighbridge", "sub": "job", "iat": NOW, "exp": NOW + 300}
    header = {"alg": "RS256", "kid": "first"}

    assert ask("GET", "whoami", token=sign_by_hand(issuer.keys[0], header, claims)).status_code == 200
    header |= {"crit": ["example"], "example": True}
    assert refused(ask("GET", "whoami", token=sign_by_hand(issuer.keys[0], header, claims | {"jti": "2"})))


def test_nothing_is_fetched_for_an_issuer_that_is_not_configured(ask, issuer, stranger, nightly):
    assert refused(ask("GET", "whoami", token=stranger.sign()))
    assert refused(ask("GET", "whoami", token=stranger.sign(iss=issuer.url)))
    assert refused(ask("GET", "whoami", token=issuer.sign(iss=stranger.url)))
    assert refused(ask("GET", "whoami", token=issuer.sign(jku=f"{stranger.url}/jwks", key=stranger.keys[0])))

    assert stranger.asked == []


@pytest.mark.parametrize(
    "token", ["a.b.c", "eyJ.eyJ.x", "..", "x" * 20_000 + ".eyJ9.x", "ä.b.c", "[" * 9_000 + ".e30.x"]
)
def test_what_only_looks_like_a_jwt_is_refused(guarded, issuer, nightly, token):
    answer = guarded.get(f"{PREFIX}/whoami", headers={"Authorization": b"Bearer " + token.encode()})

    assert refused(answer)


def test_deeply_nested_claims_are_refused(ask, issuer, nightly):
    claims = base64.urlsafe_b64encode(b"[" * 9_000).decode().rstrip("=")

    assert refused(ask("GET", "whoami", token=f"e30.{claims}.x"))


def test_a_jwt_of_more_than_16_kb_is_refused_unread(ask, issuer, nightly):
    assert refused(ask("GET", "whoami", token=issuer.sign(more="x" * 14_000)))
    assert issuer.asked == []


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


def test_a_revoked_jwt_ends_and_does_not_come_back_written_differently(ask, issuer, nightly):
    issuer.keys = [new_key("curve", "EC")]
    token = issuer.sign(alg="ES256")
    prefix = ask("GET", "whoami", token=token).json()["token"]
    assert ask("DELETE", f"tokens/{prefix}").status_code == 200

    assert refused(ask("GET", "whoami", token=token))
    assert refused(ask("GET", "whoami", token=other_signature(token)))


def other_signature(token):
    """Return the JWT with the other signature that ECDSA has for it: r, and the order less s."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    flipped = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    return f"{signed}.{base64.urlsafe_b64encode(flipped).decode().rstrip('=')}"


def test_the_other_signature_of_a_jwt_means_the_same_jwt(ask, issuer, nightly):
    issuer.keys = [new_key("curve", "EC")]
    token = issuer.sign(alg="ES256")

    assert [ask("GET", "whoami", token=each).status_code for each in (token, other_signature(token))] == [200, 200]
    assert len(ask("GET", "tokens?user=nightly").json()["items"]) == 1


def test_whoever_knows_the_claims_of_an_accepted_jwt_is_not_let_in_without_its_signature(ask, issuer, nightly):
    token = issuer.sign()
    assert ask("GET", "whoami", token=token).status_code == 200

    assert refused(ask("GET", "whoami", token=token.rpartition(".")[0] + ".AAAA"))


def test_a_disabled_user_and_an_ended_binding_end_what_they_let_in(ask, issuer, nightly):
    token, other = issuer.sign(), issuer.sign(jti="2")
    assert ask("GET", "whoami", token=token).status_code == 200

    ask("PATCH", "users/nightly", {"disabled": True})
    assert refused(ask("GET", "whoami", token=token))
    assert refused(ask("GET", "whoami", token=other))

    ask("PATCH", "users/nightly", {"disabled": False})
    assert ask("GET", "whoami", token=token).status_code == 200
    assert ask("DELETE", f"users/nightly/identities/{nightly['id']}").status_code == 200
    assert refused(ask("GET", "whoami", token=token))
    assert refused(ask("GET", "whoami", token=other))
    bind(ask, issuer)
    assert refused(ask("GET", "whoami", token=token))  # what was ended stays so
    assert ask("GET", "whoami", token=other).status_code == 200


def test_what_a_job_makes_ends_with_its_jwt(ask, issuer, nightly):
    token = issuer.sign()
    made = ask("POST", "tokens", {"name": "x", "targets": ["vision"]}, token=token).json()

    assert made["expires_at"] == ask("GET", "whoami", token=token).json()["expires_at"]
    ask("DELETE", f"users/nightly/identities/{nightly['id']}")
    assert refused(ask("GET", "whoami", token=made["token"]))


def test_jwts_do_not_use_up_the_tokens_that_a_user_may_have(ask, issuer, nightly, monkeypatch):
    monkeypatch.setattr("storage.metadata.tokens.MAX_TOKENS", 1)

    for number in range(3):
        assert ask("GET", "whoami", token=issuer.sign(jti=str(number))).status_code == 200
    assert ask("POST", "tokens", {"name": "x", "user": "nightly"}).status_code == 201


def test_two_requests_with_a_new_jwt_at_once_are_both_let_in(guarded, ask, issuer, nightly):
    issuer.delay_seconds = 0.1
    token = issuer.sign()
    headers = {"Authorization": f"Bearer {token}"}

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: guarded.get(f"{PREFIX}/whoami", headers=headers), range(8)))

    assert {answer.status_code for answer in answers} == {200}
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]
    assert len(ask("GET", "tokens?user=nightly").json()["items"]) == 1


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
    app = create_app(Settings(data=tmp_path, **settings))
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


def test_a_refused_jwt_is_in_the_audit_and_its_reason_in_the_log_and_the_jwt_in_neither(ask, issuer, nightly, caplog):
    token = issuer.sign(sub="somebody")
    with caplog.at_level(logging.INFO, "weighbridge"):
        assert refused(ask("GET", "whoami", token=token))

    (entry,) = ask("GET", "audit?action=login.fail").json()["items"]
    assert entry["actor"] == "unknown"
    assert "weighbridge user trust NAME --issuer" in caplog.text
    assert "somebody" in caplog.text
    assert token.split(".")[1] not in caplog.text + json.dumps(entry)


def test_an_accepted_jwt_is_in_the_audit(ask, issuer, nightly):
    prefix = ask("GET", "whoami", token=issuer.sign()).json()["token"]

    (entry,) = ask("GET", "audit?action=token.accept").json()["items"]
    assert (entry["actor"], entry["token"]) == ("nightly", prefix)
    assert entry["detail"] == {"user": "nightly", "issuer": issuer.url, "subject": "job"}


def test_an_identity_for_signing_in_is_none_for_jobs(ask, issuer, nightly):
    ask("PUT", "users/ada")
    bind(ask, issuer, "ada", subject="ada", use="sign_in", scopes=[], targets=[])

    assert refused(ask("GET", "whoami", token=issuer.sign(sub="ada")))


def test_a_subject_is_bound_to_one_user(ask, issuer, nightly):
    ask("PUT", "users/other")
    body = {"issuer": issuer.url, "subject": "job", "scopes": ["read"]}
    answer = ask("POST", "users/other/identities", body)

    assert answer.status_code == 409
    assert "nightly" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"subject": "x", "scopes": ["read"]},
        {"issuer": "gitlab.example.com", "subject": "x", "scopes": ["read"]},
        {"issuer": "https://gitlab.example.com", "subject": "", "scopes": ["read"]},
        {"issuer": "https://gitlab.example.com", "subject": "x", "scopes": []},
        {"issuer": "https://gitlab.example.com", "subject": "x", "use": "sign_in", "scopes": ["read"]},
        {"issuer": "https://gitlab.example.com", "subject": "x", "scopes": ["read"], "targets": ["a/b/c"]},
    ],
)
def test_a_binding_that_makes_no_sense_is_refused(ask, nightly, body):
    assert ask("POST", "users/nightly/identities", body).status_code == 422


def test_bindings_are_listed_and_of_another_user_not_found(ask, nightly):
    ask("PUT", "users/other")

    assert ask("GET", "users/nightly/identities").json()["items"] == [nightly]
    answer = ask("DELETE", f"users/other/identities/{nightly['id']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "identity_not_found")


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
