"""Deleting, and the ways back: versions in use, purging at once, and the end of the grace period."""

import dataclasses
from datetime import timedelta

import pytest
from embedded import make_weights

from storage.access import Caller
from storage.garbage import collect

OPERATOR = Caller("operator", is_administrator=True)


@pytest.fixture
def push(client, model):
    first_seed = int(model.rpartition("/")[2], 16)  # no other test's versions hold these bytes

    def push(seed=0, **query):
        answer = client.put(f"{model}/upload/model.pt", content=make_weights(first_seed + seed), params=query)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return push


def test_a_version_that_others_are_based_on_is_not_deleted_silently(client, model, push):
    full = "/".join(model.split("/")[-2:])
    push()
    push(1, base=f"{full}:1")

    refused = client.delete(f"{model}/versions/1").json()
    forced = client.delete(f"{model}/versions/1", params={"force": "true"})

    assert (refused["code"], refused["bases"]) == ("version_in_use", [f"{full}:2"])
    assert "--force" in refused["detail"]
    assert forced.json()["deleted_at"] is not None
    assert client.get(f"{model}/versions/2").json()["base"] == f"{full}:1"


def test_a_version_that_only_deleted_ones_are_based_on_is_deleted(client, model, push):
    full = "/".join(model.split("/")[-2:])
    push()
    push(1, base=f"{full}:1")
    client.delete(f"{model}/versions/2")

    assert client.delete(f"{model}/versions/1").status_code == 200


def test_leaked_weights_are_purged_at_once_whatever_points_at_them(client, model, push):
    size_bytes = push(alias="prod")["size_bytes"]
    push(1)

    waits = client.post(f"{model}/versions/1/purge", json={"reason": "leaked"})
    done = client.post(f"{model}/versions/1/purge", json={"reason": "leaked", "now": True})

    assert waits.json()["code"] == "not_deleted"
    assert done.json() == {"freed_bytes": size_bytes, "still_held_bytes": 0, "held_by": [], "held_by_more": 0}
    assert client.get(f"{model}/versions/1/artifacts/model.pt").json()["code"] == "version_not_found"
    assert client.get(f"{model}/aliases/prod").json()["code"] == "alias_not_found"
    assert "leaked" in client.get(f"{model}/aliases/prod/history").json()["items"][0]["reason"]


def test_a_purge_tells_who_still_holds_the_bytes(client, model, push):
    full = "/".join(model.split("/")[-2:])
    size_bytes = push()["size_bytes"]
    push()

    purged = client.post(f"{model}/versions/1/purge", json={"reason": "room", "now": True}).json()

    assert purged == {"freed_bytes": 0, "still_held_bytes": size_bytes, "held_by": [f"{full}:2"], "held_by_more": 0}


def test_what_was_deleted_can_be_restored_until_the_grace_period_ends(client, installation, model, push):
    push()
    push(1)
    client.delete(f"{model}/versions/1")

    collect(installation.stores, OPERATOR)
    assert client.post(f"{model}/versions/1/restore").status_code == 200
    client.delete(f"{model}/versions/1")
    done = collect(dataclasses.replace(installation.stores, grace=timedelta(0)), OPERATOR)

    assert done.purged_versions >= 1
    assert client.post(f"{model}/versions/1/restore").json()["code"] == "not_deleted"
    assert client.get(f"{model}/versions/2").status_code == 200
    assert "deleted for more than 0 days" in client.get(f"{model}/versions/1").json()["detail"]


def test_the_versions_of_a_deleted_model_go_when_its_grace_period_ends(client, installation, model, push):
    push()
    push(1)
    client.delete(model)

    assert collect(installation.stores, OPERATOR).purged_versions == 0
    assert collect(dataclasses.replace(installation.stores, grace=timedelta(0)), OPERATOR).purged_versions >= 2
    client.post(f"{model}/restore")
    assert client.get(f"{model}/versions").json()["items"] == []
