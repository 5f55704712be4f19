"""Jobs that come with a JWT of their CI or cluster: who is let in, for how long, and what is told of it."""

import base64
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from identity_issuer import new_key
from signing_in import bind, refused

from api.app import PREFIX


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
