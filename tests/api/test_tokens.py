"""Tokens of people and jobs: what they are good for, and that they end at once."""

import pytest
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.settings import Settings
from registry.teams import Scope

ROOT = "the administrator's token of this test"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def guarded(folder):
    app = create_app(Settings(data=folder, teams=True, token=ROOT))
    with TestClient(app, base_url="http://models.example.com") as client:
        yield client


@pytest.fixture
def ask(guarded):
    """Return a function that asks as the holder of a token."""

    def ask(method, path, body=None, *, token=ROOT, **more):
        return guarded.request(
            method, f"{PREFIX}/{path}", json=body, headers={"Authorization": f"Bearer {token}"}, **more
        )

    return ask


@pytest.fixture
def team(ask, model):
    """A team of the test's own."""
    name = model.rpartition("/")[2]
    assert ask("PUT", f"teams/{name}").status_code == 201
    return name


@pytest.fixture
def member(ask, team):
    """Return a function that makes a member of the team and returns a token of theirs."""

    def member(role, **token):
        user = f"{role}-{team}"
        ask("PUT", f"users/{user}")
        assert ask("PUT", f"teams/{team}/members/{user}", {"role": role}).status_code == 200
        made = ask("POST", "tokens", {"name": "a test", "user": user, "scopes": list(Scope), **token})
        assert made.status_code == 201, made.text
        return made.json()["token"]

    return member


@pytest.fixture
def push(ask, guarded, weights):
    """Return a function that pushes a version as the holder of a token."""

    def push(model, token=ROOT, **query):
        return guarded.put(
            f"{PREFIX}/models/{model}/upload/model.pt",
            content=weights,
            params=query,
            headers={"Authorization": f"Bearer {token}"},
        )

    return push


@pytest.fixture
def prefix_of(ask):
    """Return a function that tells how a token begins, which is its name."""
    return lambda token: ask("GET", "whoami", token=token).json()["token"]


def test_the_secret_is_told_once_and_kept_nowhere(ask, folder, member, prefix_of):
    token = member("reader")
    prefix = prefix_of(token)
    secret = token.removeprefix(prefix)

    listed = ask("GET", "tokens?user=*").text
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())

    assert prefix in listed
    assert prefix.encode() in kept
    assert secret not in listed
    assert secret.encode() not in kept


def test_a_token_tells_who_holds_it_and_what_for(ask, member, team):
    token = member("writer", scopes=["read", "push"], targets=[f"{team}/net"])

    me = ask("GET", "whoami", token=token).json()

    assert (me["name"], me["administrator"], me["roles"]) == (f"writer-{team}", False, {team: "writer"})
    assert (me["scopes"], me["targets"]) == (["push", "read"], [f"{team}/net"])
    assert token.startswith(me["token"])


def test_a_revoked_token_is_refused_from_the_next_request_on(ask, member, prefix_of, team):
    token = member("reader")
    assert ask("GET", f"teams/{team}", token=token).status_code == 200

    revoked = ask("DELETE", f"tokens/{prefix_of(token)}", token=token)

    assert revoked.json()["revoked_at"] is not None
    assert ask("GET", f"teams/{team}", token=token).json()["code"] == "authentication_required"


def test_who_is_disabled_or_has_lost_their_role_is_out_at_once(ask, member, team):
    token = member("maintainer")

    ask("DELETE", f"teams/{team}/members/maintainer-{team}")
    assert ask("GET", f"teams/{team}", token=token).status_code == 404
    ask("PATCH", f"users/maintainer-{team}", {"disabled": True})
    assert ask("GET", "whoami", token=token).status_code == 401
    ask("PATCH", f"users/maintainer-{team}", {"disabled": False})
    assert ask("GET", "whoami", token=token).status_code == 200


def test_a_token_makes_no_token_that_could_do_more(ask, member, team):
    token = member("writer", scopes=["read"], targets=[team], expires_in_days=2)

    more = ask("POST", "tokens", {"name": "x", "scopes": ["read", "push"], "targets": [team]}, token=token)
    wider = ask("POST", "tokens", {"name": "x", "scopes": ["read"]}, token=token)
    elsewhere = ask("POST", "tokens", {"name": "x", "scopes": ["read"], "targets": ["audio"]}, token=token)
    others = ask("POST", "tokens", {"name": "x", "scopes": ["read"], "targets": [team], "user": "admin"}, token=token)
    same = ask("POST", "tokens", {"name": "x", "scopes": ["read"], "targets": [f"{team}/net"]}, token=token)

    assert [each.status_code for each in (more, wider, elsewhere, others, same)] == [403, 403, 403, 403, 201]
    own = ask("GET", "whoami", token=token).json()
    assert same.json()["expires_at"] == own["expires_at"]


def test_a_revoked_token_ends_those_that_were_made_with_it(ask, member, prefix_of):
    stolen = member("writer")
    child = ask("POST", "tokens", {"name": "a thief's"}, token=stolen).json()["token"]
    grandchild = ask("POST", "tokens", {"name": "another"}, token=child).json()["token"]

    ask("DELETE", f"tokens/{prefix_of(stolen)}")

    assert [ask("GET", "whoami", token=each).status_code for each in (stolen, child, grandchild)] == [401, 401, 401]


def test_a_token_that_an_administrator_makes_for_another_outlives_theirs(ask, member):
    ask("PUT", "users/root-of-test", {"administrator": True})
    theirs = ask(
        "POST", "tokens", {"name": "a day", "user": "root-of-test", "scopes": list(Scope), "expires_in_days": 1}
    )
    ask("PUT", "users/job-of-test")
    job = ask(
        "POST", "tokens", {"name": "ci", "user": "job-of-test", "expires_in_days": None}, token=theirs.json()["token"]
    ).json()
    ask("DELETE", f"tokens/{theirs.json()['prefix']}")

    assert job["expires_at"] is None
    assert ask("GET", "whoami", token=job["token"]).json()["name"] == "job-of-test"


@pytest.mark.parametrize("name", ["local", "token", "Operator", "unknown"])
def test_no_user_has_a_name_that_the_audit_gives_to_others(ask, name):
    assert ask("PUT", f"users/{name}").json()["code"] == "invalid_name"


def test_who_may_read_a_model_is_for_maintainers_to_say(ask, member, push, team):
    push(f"{team}/net")
    writer, maintainer = member("writer"), member("maintainer")

    shared = [
        ask("PATCH", f"models/{team}/net", {"visibility": "everyone"}, token=each) for each in (writer, maintainer)
    ]

    assert [each.status_code for each in shared] == [403, 200]
    assert ask("PATCH", f"models/{team}/net", {"description": "x"}, token=writer).status_code == 200


def test_nobody_ends_anothers_token(ask, member, prefix_of):
    mine, theirs = member("admin"), member("reader")

    assert ask("DELETE", f"tokens/{prefix_of(theirs)}", token=mine).json()["code"] == "token_not_found"
    assert ask("GET", "tokens?user=*", token=mine).status_code == 403
    assert ask("GET", "whoami", token=theirs).status_code == 200


def test_a_token_for_one_model_is_good_for_no_other(ask, member, push, team):
    push(f"{team}/net")
    push(f"{team}/other")
    token = member("maintainer", targets=[f"{team}/net"])

    assert ask("GET", f"models/{team}/net", token=token).status_code == 200
    assert ask("GET", f"models/{team}/other", token=token).status_code == 404
    assert [each["name"] for each in ask("GET", "models", token=token).json()["items"]] == ["net"]
    assert push(f"{team}/other", token).status_code == 404


def test_what_everyone_may_read_they_may_not_change(ask, member, push, team):
    push(f"{team}/net")
    stranger = member("reader")
    ask("DELETE", f"teams/{team}/members/reader-{team}")
    unseen = ask("GET", f"models/{team}/net", token=stranger)

    ask("PATCH", f"models/{team}/net", {"visibility": "everyone"})

    assert unseen.json()["code"] == "model_not_found"
    assert ask("GET", f"models/{team}/net/versions/1", token=stranger).status_code == 200
    assert ask("PATCH", f"models/{team}/net", {"description": "x"}, token=stranger).status_code == 403
    assert ask("GET", f"teams/{team}", token=stranger).status_code == 404


def test_what_one_may_not_see_looks_like_what_is_not_there(ask, member, push, team):
    push(f"{team}/net")
    stranger = member("reader")
    ask("DELETE", f"teams/{team}/members/reader-{team}")

    there, nowhere = (
        [ask(method, path.format(model), token=stranger).json() for method, path in LOOKS]
        for model in (f"{team}/net", f"{team}/nothing")
    )

    for each in there + nowhere:
        each.pop("request_id")
    assert [str(each).replace("nothing", "net") for each in nowhere] == [str(each) for each in there]


LOOKS = [
    ("GET", "models/{}"),
    ("GET", "models/{}/versions"),
    ("GET", "models/{}/versions/1"),
    ("GET", "models/{}/versions/1/artifacts/model.pt"),
    ("GET", "models/{}/aliases/prod/history"),
    ("DELETE", "models/{}"),
    ("POST", "models/{}/restore"),
]


def test_only_maintainers_move_a_protected_alias(ask, member, push, team):
    push(f"{team}/net")
    writer, maintainer = member("writer"), member("maintainer")

    first = push(f"{team}/net", writer, alias="prod")
    assert (first.status_code, first.json()["code"]) == (403, "permission_denied")
    assert push(f"{team}/net", writer, alias="best").status_code == 201
    assert push(f"{team}/net", maintainer, alias="prod").status_code == 201
    ask("PATCH", f"teams/{team}", {"protected_aliases": ["best"]})
    assert push(f"{team}/net", writer, alias="best").status_code == 403
    assert push(f"{team}/net", writer, alias="prod").status_code == 201


def test_who_finds_a_narrow_token_learns_of_no_broader_one_and_ends_none(ask, member, prefix_of, push, team):
    push(f"{team}/net")
    broad = member("admin")
    body = {"name": "ci", "scopes": ["read"], "targets": [f"{team}/net"]}
    narrow = ask("POST", "tokens", body, token=broad).json()

    listed = ask("GET", "tokens", token=narrow["token"]).json()["items"]
    ended = ask("DELETE", f"tokens/{prefix_of(broad)}", token=narrow["token"])

    assert [each["prefix"] for each in listed] == [narrow["prefix"]]
    assert ended.json()["code"] == "token_not_found"
    assert ask("DELETE", f"tokens/{narrow['prefix']}", token=narrow["token"]).status_code == 200
    assert ask("GET", "whoami", token=broad).status_code == 200


def test_a_target_named_like_no_model_is_none(ask, member, team):
    token = member("admin", targets=[f"{team}/None", "None/None"])

    assert ask("GET", f"audit?team={team}", token=token).status_code == 404
    assert ask("GET", "users", token=token).status_code == 403


def test_who_may_see_one_model_is_told_of_no_other(ask, member, push, team):
    push(f"{team}/resnet50")
    push(f"{team}/resnet50-secret")
    ask("PATCH", f"models/{team}/resnet50", {"visibility": "everyone"})
    job = member("reader", targets=[f"{team}/resnet5"])
    stranger = member("writer")
    ask("DELETE", f"teams/{team}/members/writer-{team}")
    ask("DELETE", f"models/{team}/resnet50")

    answers = [ask("GET", f"models/{team}/resnet50", token=stranger), ask("GET", f"models/{team}/resnet5", token=job)]

    assert [each.status_code for each in answers] == [404, 404]
    assert not any("secret" in each.text or "deleted" in each.text for each in answers)


def test_a_deleted_model_is_begun_anew_by_those_who_may_delete_only(ask, member, push, team):
    push(f"{team}/net", alias="prod")
    writer, maintainer = member("writer"), member("maintainer")
    ask("DELETE", f"models/{team}/net")

    assert push(f"{team}/net", writer).json()["code"] == "permission_denied"
    assert ask("PUT", f"models/{team}/net", token=writer).status_code == 403
    assert push(f"{team}/net", maintainer).status_code == 201


def test_deleted_versions_of_what_everyone_may_read_are_for_the_team(ask, member, push, team):
    push(f"{team}/net")
    ask("PATCH", f"models/{team}/net", {"visibility": "everyone"})
    ask("DELETE", f"models/{team}/net/versions/1")
    reader = member("reader")
    inside = ask("GET", f"models/{team}/net/versions?deleted=true", token=reader).json()["items"]
    ask("DELETE", f"teams/{team}/members/reader-{team}")
    outside = ask("GET", f"models/{team}/net/versions?deleted=true", token=reader).json()["items"]

    assert (len(inside), len(outside)) == (1, 0)
