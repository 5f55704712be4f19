"""Models, versions, annotations and aliases over HTTP."""

import pytest
from embedded import make_weights


def test_a_model_is_made_changed_deleted_and_restored(client, model):
    made = client.put(model, json={"description": "a net", "tags": {"task": "cls"}})
    assert (made.status_code, made.headers["Location"]) == (201, model)
    assert client.put(model).json()["code"] == "model_exists"

    changed = client.patch(model, json={"description": "the net", "tags": {"task": None, "team": "vision"}}).json()
    assert (changed["description"], changed["tags"]) == ("the net", {"team": "vision"})

    assert client.delete(model).json()["deleted_at"] is not None
    assert client.get(model).json()["code"] == "model_not_found"
    assert client.post(f"{model}/restore").json()["deleted_at"] is None
    assert client.get(model).json()["description"] == "the net"


def test_models_are_found_by_words_tags_and_kind_page_by_page(client, model, weights):
    team, name = model.split("/")[-2:]
    for number in range(3):
        client.put(f"{model}{number}/upload/model.pt", content=weights)
        client.patch(f"{model}{number}", json={"tags": {"number": str(number)}})

    first = client.get("/api/v1/models", params={"search": name, "team": team, "limit": 2}).json()
    rest = client.get(
        "/api/v1/models", params={"search": name, "team": team, "limit": 2, "cursor": first["cursor"]}
    ).json()
    tagged = client.get("/api/v1/models", params={"search": name, "tag": "number=1", "kind": "state_dict"}).json()

    assert [each["name"] for each in first["items"] + rest["items"]] == [f"{name}{number}" for number in range(3)]
    assert rest["cursor"] is None
    assert [each["name"] for each in tagged["items"]] == [f"{name}1"]


def test_versions_are_sorted_by_a_metric(client, model):
    for seed, top1 in enumerate((0.5, 0.9, 0.7)):
        client.put(f"{model}/upload/model.pt", content=make_weights(seed), params={"metric.top1": str(top1)})

    items = client.get(f"{model}/versions", params={"sort": "-metrics.top1"}).json()["items"]

    assert [each["number"] for each in items] == [2, 3, 1]


def test_annotations_change_for_whoever_saw_the_last_revision(client, model, pushed):
    url = f"{model}/versions/1"
    etag = client.get(url).headers["ETag"]

    unconditional = client.patch(url, json={"metrics": {"top1": 0.5}})
    assert (unconditional.status_code, unconditional.json()["code"]) == (428, "precondition_required")
    changed = client.patch(url, json={"metrics": {"top1": 0.5}, "tags": {"a": "b"}}, headers={"If-Match": etag})
    assert changed.json()["annotations"]["metrics"] == {"top1": 0.5}
    assert changed.headers["ETag"] == '"2"'
    lost = client.patch(url, json={"tags": {"a": None}}, headers={"If-Match": etag})
    assert (lost.status_code, lost.json()["code"]) == (412, "precondition_failed")
    assert "local" in lost.json()["detail"]


def test_an_alias_moves_only_from_where_the_mover_saw_it(client, model, pushed, weights):
    client.put(f"{model}/upload/model.pt", content=make_weights(1))
    url = f"{model}/aliases/prod"

    assert client.put(url, json={"version": 1}).json()["code"] == "precondition_required"
    made = client.put(url, json={"version": 1, "reason": "first"}, headers={"If-None-Match": "*"})
    assert (made.json()["version"], made.headers["ETag"]) == (1, '"1"')
    assert client.put(url, json={"version": 2}, headers={"If-None-Match": "*"}).status_code == 412
    moved = client.put(url, json={"version": 2, "reason": "better"}, headers={"If-Match": '"1"'})
    assert moved.headers["ETag"] == '"2"'
    lost = client.put(url, json={"version": 1}, headers={"If-Match": '"1"'})
    assert (lost.status_code, lost.json()["code"]) == (412, "precondition_failed")

    assert [each["name"] for each in client.get(f"{model}/aliases").json()["items"]] == ["prod"]
    assert client.get(url).headers["ETag"] == '"2"'
    assert client.delete(url, headers={"If-Match": '"2"'}).status_code == 204
    moves = client.get(f"{url}/history").json()["items"]
    assert [(each["from_version"], each["to_version"], each["reason"]) for each in moves] == [
        (2, None, ""), (1, 2, "better"), (None, 1, "first"),
    ]  # fmt: skip


def test_a_version_is_deleted_restored_and_purged(installation, client, model):
    content = make_weights(77)
    client.put(f"{model}/upload/model.pt", content=content, params={"alias": "prod"})
    url = f"{model}/versions/1"

    assert client.delete(url).json()["code"] == "version_in_use"
    client.delete(f"{model}/aliases/prod", headers={"If-Match": "*"})
    assert client.post(f"{url}/purge", json={"reason": "no"}).json()["code"] == "not_deleted"
    assert client.delete(url).json()["deleted_at"] is not None
    assert client.get(url).json()["code"] == "version_not_found"
    assert client.get(f"{model}/versions", params={"deleted": True}).json()["items"][0]["number"] == 1
    assert client.post(f"{url}/restore").json()["deleted_at"] is None
    assert client.get(f"{url}/artifacts/model.pt").content == content

    client.delete(url)
    purged = client.post(f"{url}/purge", json={"reason": "the data must go"})
    assert purged.json() == {"freed_bytes": len(content), "still_held_bytes": 0, "held_by": [], "held_by_more": 0}
    assert client.post(f"{url}/restore").json()["code"] == "not_deleted"
    assert client.put(f"{model}/upload/model.pt", content=content).json()["number"] == 2


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("", 404, "model_not_found"),
        ("/versions/1", 404, "model_not_found"),
        ("/versions?cursor=nonsense", 404, "model_not_found"),
        ("/aliases/prod", 404, "model_not_found"),
    ],
)
def test_what_is_not_there_says_so(client, model, path, status, code):
    answer = client.get(f"{model}{path}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/versions/9", 404, "version_not_found"),
        ("/versions/best", 404, "alias_not_found"),
        ("/versions?cursor=nonsense", 400, "invalid_cursor"),
        ("/versions?sort=age", 422, "invalid_request"),
        ("/versions?limit=0", 422, "invalid_request"),
        ("/versions?tag=no-sign", 422, "invalid_request"),
        ("/manifest", 404, "not_found"),
        ("/versions/1/manifest?path=nothing.pt", 404, "artifact_not_found"),
    ],
)
def test_what_a_model_does_not_have_says_so(client, model, pushed, path, status, code):
    answer = client.get(f"{model}{path}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_close_name_is_suggested(client, model, pushed):
    answer = client.get(f"{model[:-1]}")

    assert model.split("/")[-1] in answer.json()["detail"]
