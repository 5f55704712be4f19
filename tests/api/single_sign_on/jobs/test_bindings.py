"""Bindings of an issuer's subjects to users."""

import pytest
from signing_in import bind, refused


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
