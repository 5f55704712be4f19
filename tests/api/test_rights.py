"""Every route as every role: what the API's description says a route needs is what it asks for."""

import itertools

import pytest
from fastapi.testclient import TestClient

from api.app import PREFIX, create_app
from api.needs import ANYBODY, NEEDS
from api.settings import Settings
from registry.teams import Role, Scope
from storage.access import Action

READER = {"read", "see_team"}
WRITER = READER | {"push", "annotate", "move_alias"}
MAINTAINER = WRITER | {"share", "move_protected_alias", "delete"}
TEAM_ADMIN = MAINTAINER | {"purge", "manage_team", "read_audit"}
EVERYTHING = TEAM_ADMIN | {"administer"}
# Written down a second time, so that a rule that changes is seen here.
MAY = {
    "administrator": EVERYTHING,
    "admin": TEAM_ADMIN,
    "maintainer": MAINTAINER,
    "writer": WRITER,
    "reader": READER,
    "outsider": set(),
    "only read": {"read", "see_team"},
    "only push": {"push", "annotate"},
    "only promote": {"move_alias", "move_protected_alias"},
    "only admin": {"share", "delete", "purge", "manage_team", "read_audit", "administer"},
}
BODIES = {
    "add_identity": {"issuer": "https://gitlab.example.com", "subject": "x", "scopes": ["read"]},
    "annotate_version": {"description": "x"},
    "check_version": {"architecture": {"tensors": []}},
    "find_compatible": {"architecture": {"tensors": []}},
    "move_alias": {"version": 1},
    "plan_upload": {"metadata": {"artifacts": {"model.pt": {"size_bytes": 1000}}}},
    "request_parts": {"path": "model.pt", "numbers": [1]},
    "plan_reads": {"artifacts": [{"path": "model.pt"}]},
    "purge_version": {"reason": "x"},
    "set_member": {"role": "reader"},
    "set_override": {"reason": "x"},
}
TOKEN = "the administrator's token of this test"


DESCRIPTION = create_app(Settings(teams=True)).openapi()
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
    if path.startswith(PREFIX)
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A service that needs tokens."""
    app = create_app(Settings(data=tmp_path_factory.mktemp("rights"), teams=True, token=TOKEN))
    with TestClient(app, base_url="http://models.example.com") as client:
        yield client


@pytest.fixture(scope="module")
def administrator():
    return {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def callers(guarded, administrator):
    """The headers of somebody of each role in the team `vision`, and of administrators' tokens of one scope each."""

    def ask(method, path, body):
        answer = guarded.request(method, f"{PREFIX}/{path}", json=body, headers=administrator)
        assert answer.is_success, answer.text
        return answer.json()

    def bearer(user, scopes):
        token = ask("POST", "tokens", {"name": "test", "user": user, "scopes": scopes})["token"]
        return {"Authorization": f"Bearer {token}"}

    ask("PUT", "teams/vision", {})
    for role in Role:
        ask("PUT", f"users/{role}", {})
        ask("PUT", f"teams/vision/members/{role}", {"role": role})
    ask("PUT", "users/outsider", {})
    ask("PUT", "users/root", {"administrator": True})
    people = {user: bearer(user, list(Scope)) for user in (*Role, "outsider")}
    return {"administrator": bearer("root", list(Scope)), **people} | {
        f"only {scope}": bearer("root", [scope]) for scope in Scope
    }


@pytest.fixture(scope="module")
def call(guarded, administrator, callers, weights):
    """Return a function that asks an operation and says what came of it: changes have a model of their own."""
    assert callers, "they are of the team that the models are in"
    numbers = itertools.count()
    upload = f"{PREFIX}/models/vision/{{}}/upload/model.pt"
    assert guarded.put(upload.format("read"), content=weights, headers=administrator).status_code == 201

    def call(operation_id, headers):
        method, path, _ = OPERATIONS[operation_id]
        changes = "{model}" in path and method not in {"get", "head"}
        names = {
            "team": "vision",
            "model": f"net{next(numbers)}" if changes else "read",
            "version": "1",
            "number": "1",
            "alias": "best",
        }
        names |= {"path": "model.pt", "filename": "model.pt", "user": "nobody", "prefix": "wb_aaaaaaaaaaaaaaaa"}
        names |= {"identity": "1", "other": "1"}
        names["sha256"] = "sha256:" + "0" * 64
        if changes:
            own = upload.format(names["model"])
            assert guarded.put(own, content=weights, headers=administrator).status_code == 201
        if "{upload_id}" in path:  # of the caller's own, where they may
            plan = f"{PREFIX}/models/vision/{names['model']}/uploads"
            planned = guarded.post(plan, json=BODIES["plan_upload"], headers=headers)
            names |= {"upload_id": planned.json().get("id", "0" * 32), "position": "0"}
        content = {"json": BODIES.get(operation_id, {})}
        if operation_id == "create_token":
            content = {
                "json": {"name": "x", "scopes": guarded.get(f"{PREFIX}/whoami", headers=headers).json().get("scopes")}
            }
        if operation_id in {"upload_file", "send_part"}:
            content = {"content": weights}
        if operation_id == "push_version":
            content = {"files": {"file": ("model.pt", weights)}}
        params = {"team": "vision"} if "audit" in operation_id else {}
        condition = {"If-None-Match": "*"} if operation_id == "move_alias" else {"If-Match": "*"}
        answer = guarded.request(
            method, path.format(**names), headers={**headers, **condition}, params=params, **content
        )
        assert answer.status_code < 500
        assert str(answer.status_code) in OPERATIONS[operation_id][2]["responses"]
        return outcome(answer)

    return call


def outcome(answer):
    code = answer.json().get("code") if answer.status_code >= 400 and answer.content else "model_not_found"
    if answer.is_success:
        return "allowed"
    if answer.status_code in {401, 403, 429}:
        # There are more routes than an address may try with unknown tokens in a moment.
        return {401: "who are you", 403: "refused", 429: "who are you"}[answer.status_code]
    return "hidden" if code in {"model_not_found", "team_not_found"} else "allowed"


def expected(caller, operation_id):
    _, path, operation = OPERATIONS[operation_id]
    action = operation[NEEDS]["action"]
    is_list_of_what_one_may_read = action in READER and "{team}" not in path
    if action == ANYBODY or action in MAY[caller] or (is_list_of_what_one_may_read and caller == "outsider"):
        return "allowed"
    return "hidden" if caller == "outsider" and action != "administer" else "refused"


def test_every_route_says_what_it_needs():
    silent = [name for name, (_, _, operation) in OPERATIONS.items() if NEEDS not in operation]

    assert silent == []
    assert len(OPERATIONS) > 35


def test_every_action_is_needed_somewhere_and_every_rule_is_known_here():
    assert {action.value for action in Action} == EVERYTHING
    assert set().union(*(MAY[f"only {scope}"] for scope in Scope)) == EVERYTHING


@pytest.mark.parametrize("operation_id", OPERATIONS)
@pytest.mark.parametrize("caller", MAY)
def test_every_route_lets_in_who_may_and_nobody_else(call, callers, caller, operation_id):
    assert call(operation_id, callers[caller]) == expected(caller, operation_id)


@pytest.mark.parametrize("operation_id", OPERATIONS)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wb_aaaaaaaaaaaaaaaa_" + "a" * 64}])
def test_no_route_answers_without_a_token_that_the_service_knows(call, headers, operation_id):
    assert call(operation_id, headers) == "who are you"


def test_nobody_is_told_what_is_wrong_with_a_body_before_it_is_known_who_they_are(guarded):
    answer = guarded.patch(f"{PREFIX}/users/x", content="{", headers={"Content-Type": "application/json"})

    assert answer.json()["code"] == "authentication_required"
