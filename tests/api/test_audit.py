"""The audit: who did what, from where, when; it can only grow."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError


@pytest.fixture
def name(model):
    return model.rpartition("/")[2]


def entries(client, **query):
    return client.get("/api/v1/audit", params=query).json()["items"]


def test_every_change_of_a_model_is_recorded_with_who_where_and_in_which_request(client, model, name, weights):
    pushed = client.put(
        f"{model}/upload/model.pt?alias=prod", content=weights, headers={"X-Request-Id": "request-of-test"}
    )
    client.patch(model, json={"description": "a net"})
    client.patch(f"{model}/versions/1", json={"deprecated": "old"}, headers={"If-Match": "*"})
    client.request("DELETE", f"{model}/aliases/prod", headers={"If-Match": "*"}, params={"reason": "done"})
    client.delete(f"{model}/versions/1")
    client.post(f"{model}/versions/1/restore")
    client.post(f"{model}/versions/1/purge", json={"reason": "leaked", "now": True})
    client.delete(model)
    client.post(f"{model}/restore")

    found = entries(client, model=name)

    assert pushed.status_code == 201
    assert [each["action"] for each in reversed(found)] == [
        "alias.move", "version.push", "model.update", "version.annotate", "alias.move", "version.delete",
        "version.restore", "version.purge", "model.delete", "model.restore",
    ]  # fmt: skip
    assert {(each["actor"], each["team"], each["model"]) for each in found} == {("local", "vision", name)}
    assert found[-1]["request_id"] == "request-of-test"
    assert found[-1]["address"] == "testclient"
    assert found[2]["detail"]["reason"] == "leaked"


def test_what_changes_nothing_is_not_recorded(client, model, name):
    client.get(model)
    client.delete(model)
    client.put(f"{model}/upload/model.pt", content=b"no weights")

    assert entries(client, model=name) == []


def test_opening_code_is_recorded_and_reading_tensors_is_not(client, model, name, weights):
    import io

    import torch

    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), file)
    client.put(f"{model}/upload/model.pt", content=weights)
    client.put(f"{model}/upload/module.pt", content=file.getvalue())
    client.get(f"{model}/versions/1/artifacts/model.pt")
    client.head(f"{model}/versions/2/artifacts/module.pt")
    client.get(f"{model}/versions/2/artifacts/module.pt")

    opened = entries(client, model=name, action="code.open")

    assert [(each["version"], each["detail"]["path"]) for each in opened] == [(2, "module.pt")]


def test_entries_are_found_by_time_and_page_by_page(client, model, name):
    before = datetime.now(UTC)
    client.put(model)
    for number in range(4):
        client.patch(model, json={"description": str(number)})

    first = client.get("/api/v1/audit", params={"model": name, "limit": 3}).json()
    rest = client.get("/api/v1/audit", params={"model": name, "limit": 3, "cursor": first["cursor"]}).json()

    assert [each["action"] for each in first["items"] + rest["items"]] == ["model.update"] * 4 + ["model.create"]
    assert rest["cursor"] is None
    assert entries(client, model=name, until=before.isoformat()) == []
    assert len(entries(client, model=name, since=before.isoformat())) == 5
    assert entries(client, model=name, since=(before + timedelta(days=1)).isoformat()) == []


def test_the_export_is_all_of_it_as_lines(client, model, name):
    client.put(model)
    client.delete(model)

    lines = client.get("/api/v1/audit/export", params={"model": name}).text.splitlines()

    assert [json.loads(line) for line in lines] == entries(client, model=name)


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET actor = 'nobody'"])
def test_the_database_refuses_to_change_what_is_recorded(client, installation, model, statement):
    client.put(model)

    with (
        pytest.raises(DBAPIError, match="only grow"),
        installation.stores.catalog.database.engine.begin() as connection,
    ):
        connection.execute(text(statement))


def test_the_past_of_an_alias_is_known(client, model, weights):
    moments = [datetime.now(UTC)]
    for _ in range(2):
        client.put(f"{model}/upload/model.pt?alias=prod", content=weights)
        moments.append(datetime.now(UTC))
    client.request("DELETE", f"{model}/aliases/prod", headers={"If-Match": "*"})

    found = [client.get(f"{model}/aliases/prod", params={"at": moment.isoformat()}).json() for moment in moments]
    naive = client.get(f"{model}/aliases/prod", params={"at": moments[1].replace(tzinfo=None).isoformat()}).json()

    assert [each.get("version") for each in found] == [None, 1, 2]
    assert found[0]["code"] == "alias_not_found"
    assert naive["version"] == 1
    assert client.get(f"{model}/aliases/prod").json()["code"] == "alias_not_found"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"])
def test_moments_beyond_the_calendar_are_refused(client, model, weights, moment):
    client.put(f"{model}/upload/model.pt?alias=prod", content=weights)

    assert client.get("/api/v1/audit", params={"since": moment}).json()["code"] == "invalid_request"
    assert client.get(f"{model}/aliases/prod", params={"at": moment}).json()["code"] == "invalid_request"
