"""JWTs that are forged, and what only looks like one."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from identity_issuer import new_key, sign_by_hand
from joserfc import jwt
from joserfc.jwk import OctKey
from signing_in import refused

from api.app import PREFIX

NOW = int(time.time())
"""When the tests were collected: what is to be refused lies far enough from it."""


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
    now = int(time.time())
    claims = {"iss": issuer.url, "aud": "weighbridge", "sub": "job", "iat": now, "exp": now + 300}

    assert refused(ask("GET", "whoami", token=jwt.encode({"alg": "HS256", "kid": "shared"}, claims, shared)))


def test_a_jwt_signed_by_another_key_of_the_same_name_is_refused(ask, issuer, nightly):
    assert refused(ask("GET", "whoami", token=issuer.sign(key=new_key("first"))))


def test_claims_that_were_changed_are_refused(ask, issuer, nightly):
    header, _, signature = issuer.sign(sub="job2").split(".")
    claims = issuer.sign().split(".")[1]

    assert refused(ask("GET", "whoami", token=f"{header}.{claims}.{signature}"))


def test_a_jwt_that_calls_something_critical_is_refused(ask, issuer, nightly):
    now = int(time.time())
    claims = {"iss": issuer.url, "aud": "weighbridge", "sub": "job", "iat": now, "exp": now + 300}
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
