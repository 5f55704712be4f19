"""Bytes that another team has: pushing them takes the very same steps as pushing bytes that nobody has."""

import re

import pytest
from attacks import harm_of
from deltas import claim, plan_delta
from embedded import API, make_weights
from sqlalchemy import event
from starlette.testclient import TestClient

from api import collector
from api.app import create_app
from api.settings import Settings
from storage.blobs.local import LocalBlobStore, LocalBlobWriter

ROOT = "root-token-of-this-test-7c1f"
KNOWN = make_weights(1)
"""What the team `first` has; files of the same size with other values nobody has."""
SEEN = ("create", "stream", "read_many", "delete", "clear", "size_bytes")


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setattr(collector, "RECORD_SECONDS", 3600)  # what is done beside the requests is nobody's step
    with TestClient(create_app(Settings(data=tmp_path / "data", teams=True, token=ROOT))) as client:
        client.headers["Authorization"] = f"Bearer {ROOT}"
        for team in ("first", "second", "third"):
            assert client.put(f"{API}/teams/{team}").status_code == 201
            assert client.put(f"{API}/models/{team}/begun/upload/model.pt", content=make_weights(2)).status_code == 201
        assert client.put(f"{API}/models/first/net/upload/model.pt", content=KNOWN).status_code == 201
        yield client


@pytest.fixture
def steps(client, monkeypatch):
    """Every statement of the database and every operation on bytes, in order, without the values."""
    found = []

    def spied(kind, name):
        original = getattr(kind, name)

        def spy(self, *arguments, **named):
            found.append(f"{kind.__name__}.{name}")
            return original(self, *arguments, **named)

        return spy

    for name in SEEN:
        monkeypatch.setattr(LocalBlobStore, name, spied(LocalBlobStore, name))
    for name in ("commit", "abort"):
        monkeypatch.setattr(LocalBlobWriter, name, spied(LocalBlobWriter, name))
    engine = client.app.state.service.stores.catalog.database.engine
    event.listen(engine, "before_cursor_execute", lambda *given: found.append(given[2]))
    return found


def push(client, steps, team, content, **headers):
    del steps[:]
    answer = client.put(f"{API}/models/{team}/net/upload/model.pt", content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer, list(steps)


def without_values(answer):
    text = re.sub(r"[0-9a-f]{64}|\d{4}-\d\d-\d\dT[^\"]*|[0-9a-f]{32}|second|third", "…", answer.text)
    return text, sorted(set(answer.headers) - {"x-request-id"}), answer.headers["content-length"] and len(text)


def figures(client):
    """Return what the figures say of pushes and bytes."""
    wanted = ("weighbridge_pushes", "weighbridge_received")
    return [float(line.split()[-1]) for line in client.get("/metrics").text.splitlines() if line.startswith(wanted)]


def objects(client):
    folder = client.app.state.settings.data / "blobs" / "objects"
    return len([path for path in folder.rglob("*") if path.is_file()])


def test_pushing_what_another_team_has_takes_the_same_steps_as_pushing_what_nobody_has(client, steps):
    known, steps_of_known = push(client, steps, "second", KNOWN)
    unknown, steps_of_unknown = push(client, steps, "third", make_weights(3))

    assert len(steps_of_known) > 20
    assert any(step.startswith("LocalBlob") for step in steps_of_known)
    assert steps_of_known == steps_of_unknown
    assert without_values(known) == without_values(unknown)


def test_announcing_the_digest_of_what_another_team_has_saves_nothing(client, steps):
    digest = client.get(f"{API}/models/first/net/versions/1").json()["artifacts"][0]["sha256"].removeprefix("sha256:")
    nobodys = make_weights(4)
    announced = client.put(f"{API}/models/second/net/upload/model.pt?sha256={digest}", content=nobodys)

    assert announced.json()["code"] == "digest_mismatch"
    before = objects(client)
    push(client, steps, "second", KNOWN)
    assert objects(client) == before + 1


def test_quotas_and_figures_count_what_another_team_has_like_anything_else(client, steps):
    def used(team):
        return client.get(f"{API}/teams/{team}").json()["stored_bytes"]

    growth, told = [], []
    for team, content in (("second", KNOWN), ("third", make_weights(5))):
        before, counted = used(team), figures(client)
        push(client, steps, team, content)
        growth.append(used(team) - before)
        told.append([after - then for after, then in zip(figures(client), counted, strict=True)])

    assert growth == [len(KNOWN)] * 2
    assert told[0] == told[1]


def test_reading_and_deleting_take_the_same_steps_whoever_else_has_the_bytes(client, steps):
    taken = []
    for team, content in (("second", KNOWN), ("third", make_weights(6))):
        push(client, steps, team, content)
        version = f"{API}/models/{team}/net/versions/1"
        for method, path in (
            ("GET", f"{version}/artifacts/model.pt"), ("GET", f"{version}/manifest"), ("DELETE", version),
            ("POST", f"{version}/restore"), ("DELETE", version),
        ):  # fmt: skip
            assert client.request(method, path).status_code == 200
        purged = client.post(f"{version}/purge", json={"reason": "x"}).json()
        taken.append((list(steps), purged))

    assert taken[0] == taken[1]
    assert taken[0][1] == {"freed_bytes": len(KNOWN), "still_held_bytes": 0, "held_by": [], "held_by_more": 0}


def plan(client, steps, team, content, **headers):
    """Plan a push of which only what is new is sent; return the answer, and the steps."""
    del steps[:]
    answer = plan_delta(client, f"{API}/models/{team}/net", content, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer, list(steps)


def lift(client, team, **changes):
    assert client.patch(f"{API}/models/{team}/net", json=changes).status_code == 200


@pytest.mark.parametrize("visibility", ["team", "everyone"])
def test_planning_what_another_team_has_takes_the_same_steps_as_planning_what_nobody_has(client, steps, visibility):
    lift(client, "first", visibility=visibility)
    known, steps_of_known = plan(client, steps, "second", KNOWN)
    unknown, steps_of_unknown = plan(client, steps, "third", make_weights(7))

    assert known.json()["files"][0]["send"] is None
    assert steps_of_known == steps_of_unknown
    assert without_values(known) == without_values(unknown)

    own, steps_of_own = plan(client, steps, "first", KNOWN)
    assert own.json()["files"][0]["send"] == []
    assert steps_of_own != steps_of_known  # else equal steps above would prove nothing


def test_a_digest_of_another_team_opens_nothing_of_its_bytes(client, steps):
    """What is claimed and not sent is taken from the own team's objects, or it is missing."""
    upload = plan(client, steps, "second", KNOWN)[0].json()
    refused = client.post(f"{API}/models/second/net/uploads/{upload['id']}/complete")
    assert refused.json()["code"] == "incomplete_upload"


@pytest.mark.parametrize(
    ("scopes", "targets", "sees"),
    [
        (["read", "push"], [], True),
        (["read", "push"], ["first"], True),
        (["read", "push"], ["first/net", "first/other"], True),
        (["read", "push"], ["first/other"], False),
        (["push"], [], False),
    ],
)
def test_a_token_learns_only_of_what_it_may_read(client, steps, scopes, targets, sees):
    assert client.put(f"{API}/users/ada", json={}).status_code == 201
    assert client.put(f"{API}/teams/first/members/ada", json={"role": "writer"}).status_code in {200, 201}
    create = {"name": "narrow", "user": "ada", "scopes": scopes, "targets": targets}
    token = client.post(f"{API}/tokens", json=create).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = plan_delta(client, f"{API}/models/first/other", KNOWN, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["files"][0]["send"] == ([] if sees else None)


def test_what_is_in_quarantine_is_no_source(client, steps):
    assert client.patch(f"{API}/teams/second", json={"unsafe": "quarantine"}).status_code == 200
    harm = harm_of("second") + bytes(100_000)
    pushed = client.put(f"{API}/models/second/net/upload/model.pt", content=harm)
    assert pushed.json()["trust"] == "unsafe", pushed.text
    answer = plan_delta(client, f"{API}/models/second/net", harm, tiles=claim(harm, is_weights=False))
    assert answer.json()["files"][0]["send"] is None


def test_a_team_does_see_that_it_has_the_bytes_itself(client, steps):
    """Else equal steps above would prove nothing: reuse within a team is told apart by the same means."""
    _, first = push(client, steps, "second", KNOWN)
    before = objects(client)
    _, again = push(client, steps, "second", KNOWN)

    assert first != again
    assert objects(client) == before
