"""Files that would do harm, where a team keeps them: seen by admins, opened by nobody without a recorded reason."""

import io
import pickle

import pytest
import torch
from blake3 import blake3
from deltas import plan_delta, push_delta
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.settings import Settings
from registry.teams import Scope

ROOT = "the administrator's token of this test"


class Harm:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/weighbridge-was-here",)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    app = create_app(Settings(data=tmp_path_factory.mktemp("quarantine"), teams=True, token=ROOT))
    with TestClient(app, base_url="http://models.example.com") as client:
        yield client


@pytest.fixture(scope="module")
def callers(guarded):
    """The headers of an administrator, and of a member of the team `vision` in each role; it keeps harmful files."""
    found = {"root": {"Authorization": f"Bearer {ROOT}"}}

    def ask(method, path, body):
        answer = guarded.request(method, f"{PREFIX}/{path}", json=body, headers=found["root"])
        assert answer.is_success, answer.text
        return answer.json()

    ask("PUT", "teams/vision", {})
    ask("PATCH", "teams/vision", {"unsafe": "quarantine"})
    for role in ("admin", "maintainer", "writer"):
        ask("PUT", f"users/{role}", {})
        ask("PUT", f"teams/vision/members/{role}", {"role": role})
        token = ask("POST", "tokens", {"name": "test", "user": role, "scopes": list(Scope)})["token"]
        found[role] = {"Authorization": f"Bearer {token}"}
    return found


@pytest.fixture
def harmful(guarded, callers, model, weights):
    """Version 2 of the test's model would do harm; version 1 is good. Returns what the writer was told."""
    first = guarded.put(f"{model}/upload/model.pt", content=weights, headers=callers["writer"])
    assert first.status_code == 201, first.text
    file = io.BytesIO()
    pickle.dump((model, Harm()), file, 2)  # no other test's versions hold these bytes
    answer = guarded.put(f"{model}/upload/model.pkl?alias=best", content=file.getvalue(), headers=callers["writer"])
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_who_pushes_harm_is_told_that_it_is_in_quarantine(harmful):
    assert harmful["quarantined_at"] is not None
    assert (harmful["number"], harmful["trust"], harmful["aliases"]) == (2, "unsafe", [])
    assert "posix.system" in harmful["artifacts"][0]["globals"]
    assert "quarantine" in harmful["notices"][0]


def test_only_admins_see_what_is_in_quarantine(guarded, callers, harmful, model):
    def look(caller, path):
        return guarded.get(f"{model}/{path}", headers=callers[caller])

    digest = harmful["artifacts"][0]["sha256"]
    assert {who: look(who, "versions/2").status_code for who in callers} == {
        "root": 200, "admin": 200, "maintainer": 404, "writer": 404,
    }  # fmt: skip
    assert look("maintainer", f"versions/{digest}").status_code == 404
    assert [each["number"] for each in look("writer", "versions").json()["items"]] == [1]
    assert [each["number"] for each in look("admin", "versions").json()["items"]] == [2, 1]
    assert look("admin", "versions/latest").json()["number"] == 1
    assert guarded.get(model, headers=callers["writer"]).json()["latest"] == 1


def test_nobody_downloads_it_before_a_reason_is_recorded_for_its_digest(guarded, callers, harmful, model):
    path, digest = f"{model}/versions/2/artifacts/model.pkl", harmful["artifacts"][0]["sha256"]
    override = f"{PREFIX}/teams/vision/overrides/{digest}"

    refused = guarded.get(path, headers=callers["root"])
    wanted = {"artifacts": [{"path": "model.pkl"}]}
    planned = [
        guarded.post(f"{model}/versions/2/reads", json=wanted, headers=callers[who]).status_code
        for who in ("root", "maintainer")
    ]
    by_maintainer = guarded.put(override, json={"reason": "let me"}, headers=callers["maintainer"])
    guarded.put(override, json={"reason": "for the report of the incident"}, headers=callers["admin"])
    opened = guarded.get(path, headers=callers["admin"])
    hidden = guarded.get(path, headers=callers["maintainer"])
    guarded.delete(override, headers=callers["admin"])
    again = guarded.get(path, headers=callers["admin"])

    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert planned == [403, 404]
    assert by_maintainer.status_code == 403
    assert (opened.status_code, pickle.PROTO in opened.content) == (200, True)
    assert (hidden.status_code, again.status_code) == (404, 403)
    entries = guarded.get(f"{PREFIX}/audit", params={"team": "vision", "limit": 4}, headers=callers["admin"]).json()
    assert [each["action"] for each in entries["items"]] == [
        "override.remove", "unsafe.open", "override.set", "version.push",
    ]  # fmt: skip
    assert entries["items"][2]["detail"]["reason"] == "for the report of the incident"


def test_no_alias_can_point_into_quarantine(guarded, callers, harmful, model):
    answer = guarded.put(
        f"{model}/aliases/prod", json={"version": 2}, headers={**callers["root"], "If-None-Match": "*"}
    )

    assert answer.json()["code"] == "version_not_found"


def test_what_is_in_quarantine_is_deleted_and_purged_by_admins(guarded, callers, harmful, model):
    assert guarded.delete(f"{model}/versions/2", headers=callers["maintainer"]).status_code == 404
    assert guarded.delete(f"{model}/versions/2", headers=callers["admin"]).status_code == 200
    purged = guarded.post(f"{model}/versions/2/purge", json={"reason": "malware"}, headers=callers["admin"])
    assert purged.json()["freed_bytes"] == harmful["size_bytes"]


def test_a_team_that_does_not_keep_them_refuses_them_all_the_same(guarded, callers, model):
    guarded.patch(f"{PREFIX}/teams/vision", json={"unsafe": "refuse"}, headers=callers["root"])
    answer = guarded.put(f"{model}/upload/model.pkl", content=pickle.dumps(Harm(), 2), headers=callers["writer"])
    guarded.patch(f"{PREFIX}/teams/vision", json={"unsafe": "quarantine"}, headers=callers["root"])

    assert answer.json()["code"] == "unsafe_artifact"
    assert guarded.get(model, headers=callers["root"]).status_code == 404


def test_a_maintainer_cannot_look_into_quarantine_by_restoring(guarded, callers, harmful, model):
    guarded.delete(f"{model}/versions/2", headers=callers["admin"])

    assert guarded.post(f"{model}/versions/2/restore", headers=callers["maintainer"]).status_code == 404
    assert guarded.post(f"{model}/versions/2/restore", headers=callers["admin"]).status_code == 200


def test_overrides_are_listed_in_pages_the_newest_first(guarded, callers):
    overrides = f"{PREFIX}/teams/pages/overrides"
    guarded.put(f"{PREFIX}/teams/pages", headers=callers["root"])
    digests = [f"sha256:{number:064x}" for number in range(5)]
    for digest in digests:
        made = guarded.put(f"{overrides}/{digest}", json={"reason": "x"}, headers=callers["root"])
        assert made.status_code == 200

    pages, query = [], {"limit": 2}
    while query.get("cursor", "") is not None:
        page = guarded.get(overrides, params=query, headers=callers["root"]).json()
        pages.append([each["sha256"] for each in page["items"]])
        query["cursor"] = page["cursor"]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [digest for page in pages for digest in page] == digests[::-1]
    foreign = guarded.get(overrides, params={"cursor": "nonsense"}, headers=callers["root"])
    assert foreign.json()["code"] == "invalid_cursor"


def test_a_fine_tune_that_would_do_harm_is_kept_in_quarantine_and_never_reused(guarded, callers, model):
    tensor = torch.randn(200, 200)
    good, bad = io.BytesIO(), io.BytesIO()
    torch.save({"weight": tensor}, good)
    torch.save({"weight": tensor, "more": Harm()}, bad)
    good, bad = good.getvalue(), bad.getvalue()
    as_writer = {"headers": callers["writer"]}
    assert guarded.put(f"{model}/upload/model.pt", content=good, **as_writer).status_code == 201
    at, size = bad.index(tensor.numpy().tobytes()), 200 * 200 * 4
    spans = [(0, at), (at, at + size), (at + size, len(bad))]
    tiles = [[end - start, blake3(bad[start:end]).hexdigest()] for start, end in spans]

    guarded.headers.update(callers["writer"])
    try:
        answer, sent = push_delta(guarded, model, bad, tiles=tiles)
        again = plan_delta(guarded, model, bad, tiles=tiles).json()
    finally:
        del guarded.headers["authorization"]

    assert (answer.status_code, answer.json()["trust"]) == (201, "unsafe"), answer.text
    assert sent == len(bad) - size
    assert [length for _, length in again["files"][0]["send"]] == [at, len(bad) - at - size]
    sha256 = answer.json()["artifacts"][0]["sha256"]
    reason = {"json": {"reason": "to look at it"}, "headers": callers["admin"]}
    assert guarded.put(f"{PREFIX}/teams/vision/overrides/{sha256}", **reason).status_code in {200, 201}
    got = guarded.get(f"{model}/versions/2/artifacts/model.pt", headers=callers["admin"])
    assert got.content == bad
