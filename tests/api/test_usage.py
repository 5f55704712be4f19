"""What teams and models take: as files, as stored, and what sharing saves."""

import pytest
from embedded import make_small_weights, make_weights
from sqlalchemy import text
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.settings import Settings

ROOT = "the administrator's token of this test"
WEIGHTS = make_weights(7)
SIZE = len(WEIGHTS)


@pytest.fixture
def site(tmp_path):
    """A service with the team `vision`, a function that asks as somebody, and its database."""
    app = create_app(Settings(data=tmp_path / "data", teams=True, token=ROOT))
    with TestClient(app, base_url="http://models.example.com") as client:

        def ask(method, path, who=ROOT, **content):
            answer = client.request(method, f"{PREFIX}/{path}", headers={"Authorization": f"Bearer {who}"}, **content)
            assert answer.is_success, answer.text
            return answer.json()

        ask("PUT", "teams/vision", json={})
        ask("PATCH", "teams/vision", json={"unsafe": "quarantine"})
        yield ask, app.state.service.stores.catalog.database.engine


def push(ask, model, data=WEIGHTS):
    ask("PUT", f"models/vision/{model}/upload/model.pt", content=data)


def by_model(ask, who=ROOT):
    return {each["model"]: each for each in ask("GET", "teams/vision/storage/models", who)["items"]}


def sizes(each):
    return each["version_count"], each["logical_bytes"], each["stored_bytes"], each["saved_bytes"], each["own_bytes"]


def test_equal_files_are_stored_once_and_each_model_is_told_what_is_its_own(site):
    ask, _ = site
    other = make_weights(8)
    for model in ("a", "a", "b"):
        push(ask, model)
    push(ask, "b", other)
    ask("PUT", "models/audio/c/upload/model.pt", content=WEIGHTS)

    team, models = ask("GET", "teams/vision/storage"), by_model(ask)

    assert (team["version_count"], team["object_count"]) == (4, 2)
    assert (team["logical_bytes"], team["stored_bytes"]) == (3 * SIZE + len(other), SIZE + len(other))
    assert team["saved_bytes"] == 2 * SIZE
    assert sizes(models["a"]) == (2, 2 * SIZE, SIZE, SIZE, 0)
    assert sizes(models["b"]) == (2, SIZE + len(other), len(other), SIZE, len(other))


def test_an_object_counts_once_for_the_model_that_had_it_first(site):
    ask, engine = site
    for seed, model in enumerate(("base", "tuned", "tuned")):
        push(ask, model, make_small_weights(seed))
    with engine.begin() as connection:  # two fine-tunes that lie in the base but for their heads
        objects = list(connection.execute(text("SELECT id FROM objects ORDER BY id")).scalars())
        artifacts = list(connection.execute(text("SELECT id FROM artifacts ORDER BY id")).scalars())
        for artifact, object_id, length in ((artifacts[1], objects[1], 1000), (artifacts[2], objects[2], 1000)):
            connection.execute(
                text("UPDATE extents SET object_id = :base, length = :length WHERE artifact_id = :artifact"),
                {"base": objects[0], "length": length, "artifact": artifact},
            )
            connection.execute(
                text("INSERT INTO extents VALUES (:artifact, 1, :object, 0, 50)"),
                {"artifact": artifact, "object": object_id},
            )

    models = by_model(ask)

    base, *packs = (len(make_small_weights(seed)) for seed in range(3))
    assert models["tuned"]["stored_bytes"] == models["tuned"]["own_bytes"] == sum(packs)
    assert (models["base"]["stored_bytes"], models["base"]["own_bytes"]) == (base, 0)
    assert sum(each["stored_bytes"] for each in models.values()) == ask("GET", "teams/vision/storage")["stored_bytes"]


def test_deleted_versions_count_until_they_are_purged(site):
    ask, _ = site
    push(ask, "a")
    push(ask, "b", make_weights(8))
    ask("DELETE", "models/vision/a")
    deleted = by_model(ask)["a"]
    ask("POST", "models/vision/a/versions/1/purge", json={"reason": "x"})

    team = ask("GET", "teams/vision/storage")

    assert (deleted["is_deleted"], deleted["stored_bytes"]) == (True, SIZE)
    assert list(by_model(ask)) == ["b"]
    assert team["logical_bytes"] == team["stored_bytes"] == len(make_weights(8))


def test_what_is_in_quarantine_counts_in_its_model_for_admins_only(site):
    ask, _ = site
    push(ask, "a")
    push(ask, "a", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    ask("PUT", "users/reader", json={})
    ask("PUT", "teams/vision/members/reader", json={"role": "reader"})
    reader = ask("POST", "tokens", json={"name": "t", "user": "reader", "scopes": ["read"]})["token"]

    assert by_model(ask, reader)["a"]["version_count"] == 1
    assert by_model(ask, reader)["a"]["logical_bytes"] == SIZE
    assert by_model(ask)["a"]["version_count"] == 2


def test_models_come_in_pages(site):
    ask, _ = site
    for model in ("a", "b", "c"):
        push(ask, model)

    first = ask("GET", "teams/vision/storage/models?limit=2")
    rest = ask("GET", "teams/vision/storage/models", params={"limit": 2, "cursor": first["cursor"]})

    assert [each["model"] for each in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert rest["cursor"] is None
