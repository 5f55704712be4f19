"""Who becomes a user by signing in, under which name, and what their groups give them."""

import pytest
from signing_in import SESSION

from api.app import PREFIX


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
