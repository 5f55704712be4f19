"""Bytes that another team has: pushing them takes the very same steps as pushing bytes that nobody has."""

import re

import pytest
from embedded import API, make_weights
from sqlalchemy import event
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from storage.blobs.local import LocalBlobStore, LocalBlobWriter

ROOT = "root-token-of-this-test-7c1f"
KNOWN = make_weights(1)
"""What the team `first` has; files of the same size with other values nobody has."""
SEEN = ("create", "stream", "read_many", "delete", "clear", "size_bytes")


@pytest.fixture
def client(tmp_path):
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


def test_a_team_does_see_that_it_has_the_bytes_itself(client, steps):
    """Else equal steps above would prove nothing: reuse within a team is told apart by the same means."""
    _, first = push(client, steps, "second", KNOWN)
    before = objects(client)
    _, again = push(client, steps, "second", KNOWN)

    assert first != again
    assert objects(client) == before
