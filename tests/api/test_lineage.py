"""Versions compared over HTTP: one with another, and one with what it comes from."""

import io
import json
import threading
from contextlib import contextmanager

import pytest
import torch
from embedded import API
from small_nets import Net
from sqlalchemy import event
from starlette.testclient import TestClient

from api.app import PREFIX, create_app
from api.settings import Settings
from storage.access import Caller
from storage.lineage import get_lineage

CALLER = Caller("tester", is_administrator=True)
ROOT = "the administrator's token of this test"


def file_of(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def network(seed, **arguments):
    torch.manual_seed(seed)
    return Net(width=32, **arguments)


def tuned(base, classes):
    """Return a network with another head on the same trunk, whose statistics moved."""
    made = Net(width=32, classes=classes)
    own = made.state_dict()
    made.load_state_dict({k: v for k, v in base.state_dict().items() if v.shape == own[k].shape}, strict=False)
    made.layers[0].norm.running_mean += 1
    return made


def push(client, model, value, **query):
    answer = client.put(f"{model}/upload/model.pt", content=file_of(value), params=query)
    assert answer.status_code == 201, answer.text
    return answer.json()["number"]


def counts(diff):
    return {name: group["count"] for name, group in diff.items() if isinstance(group, dict) and group["count"]}


@contextmanager
def counted(installation):
    """Count the statements that the database gets from this thread."""
    engine, seen, own = installation.stores.catalog.database.engine, [], threading.get_ident()

    def note(_connection, _cursor, statement, *_rest):
        if threading.get_ident() == own:
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_diff_names_what_came_went_and_changed_on_the_way_to_the_other(client, model):
    old = {"same": torch.ones(4), "gone": torch.ones(2), "wider": torch.ones(2, 3), "half": torch.ones(5)}
    new = {"same": torch.ones(4), "came": torch.ones(2), "wider": torch.ones(4, 3), "half": torch.ones(5).half()}
    push(client, model, old | {"moved": torch.zeros(3)})
    push(client, model, new | {"moved": torch.ones(3)})

    diff = client.get(f"{model}/versions/1/diff/2").json()

    full = model.removeprefix(f"{API}/models/")
    assert (diff["old"], diff["new"], diff["is_equal"]) == (f"{full}:1", f"{full}:2", False)
    assert counts(diff) == dict.fromkeys(["added", "removed", "reshaped", "retyped", "changed", "equal"], 1)
    assert diff["reshaped"]["tensors"] == [
        {
            "name": "wider",
            "old": {"shape": [2, 3], "dtype": "float32", "form": "strided"},
            "new": {"shape": [4, 3], "dtype": "float32", "form": "strided"},
        }
    ]
    assert diff["added"]["tensors"][0]["old"] is None
    back = client.get(f"{model}/versions/2/diff/1").json()
    assert [each["name"] for each in back["added"]["tensors"]] == ["gone"]


def test_the_other_is_a_selector_or_a_reference_of_any_model(client, model):
    other = f"{model}-other"
    push(client, model, {"w": torch.ones(4)})
    push(client, model, {"w": torch.zeros(4)}, alias="best")
    push(client, other, {"epoch": 1, "model": {"w": torch.ones(4)}})
    full = other.removeprefix(f"{API}/models/")
    name = full.partition("/")[2]
    digest = client.get(f"{model}/versions/2").json()["artifacts"][0]["sha256"]

    def new_of(text):
        return client.get(f"{model}/versions/1/diff/{text}").json()["new"].rpartition(":")[2]

    assert [new_of(text) for text in ("2", "v2", "best", "latest", digest)] == ["2"] * 5
    for text in (f"{full}:1", full, f"{full}:1/model.pt", f"{name}:1", full.replace("/", "%2F") + ":1"):
        assert client.get(f"{model}/versions/1/diff/{text}").json()["is_equal"], text
    missing = client.get(f"{model}/versions/1/diff/vision/none:1")
    assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")
    assert client.get(f"{model}/versions/1/diff/a/b/c:1").json()["code"] == "invalid_reference"


def test_a_list_that_was_cut_says_how_many_are_not_in_it(client, model):
    push(client, model, {f"w{number}": torch.zeros(2) for number in range(10)})

    group = client.get(f"{model}/versions/1/diff/1", params={"limit": 3}).json()["equal"]

    assert (group["count"], len(group["tensors"]), group["more"]) == (10, 3, 7)
    assert client.get(f"{model}/versions/1/diff/1", params={"limit": 1001}).status_code == 422


def test_a_lineage_tells_of_the_recorded_base(client, model):
    base = network(1)
    push(client, f"{model}-base", base.state_dict())
    full = model.removeprefix(f"{API}/models/")
    push(client, model, tuned(base, 7).state_dict(), base=f"{full}-base:1")

    lineage = client.get(f"{model}/versions/latest/lineage").json()

    assert (lineage["compared_with"], lineage["relation"]) == (f"{full}-base:1", "base")
    assert lineage["text"].endswith(
        f" % of bytes shared with {full}-base:1; head has another shape (fc); BatchNorm statistics moved"
    )
    assert [each["kind"] for each in lineage["changes"]] == ["head", "statistics"]


def test_without_a_base_the_version_that_shares_most_is_found_among_older_ones_of_the_team(client, model):
    base = network(2)
    push(client, f"{model}-noise", network(3).state_dict())
    push(client, f"{model}-base", base.state_dict())
    first = tuned(base, 7)
    push(client, model, first.state_dict())
    first.fc.bias.data += 1
    push(client, model, first.state_dict())
    full = model.removeprefix(f"{API}/models/")

    found = [client.get(f"{model}/versions/{number}/lineage").json() for number in (1, 2)]
    of_base, of_noise = (client.get(f"{model}-{each}/versions/1/lineage").json() for each in ("base", "noise"))

    assert [(each["compared_with"], each["relation"]) for each in found] == [
        (f"{full}-base:1", "closest"),
        (f"{full}:1", "closest"),
    ]
    assert found[1]["text"].endswith("; head changed (fc)")
    assert (of_base["compared_with"], of_base["text"], of_noise["compared_with"]) == (None, "", None)


def test_a_version_of_which_no_weights_are_the_obvious_ones_has_no_lineage(client, model):
    files = [("file", (name, file_of({"w": torch.ones(3)}))) for name in ("a.pt", "b.pt")]
    pushed = client.post(f"{model}/versions", files=files)
    assert pushed.status_code == 201, pushed.text

    answer = client.get(f"{model}/versions/1/lineage")

    assert (answer.status_code, answer.json()["compared_with"]) == (200, None), answer.text


def test_finding_a_lineage_asks_as_much_of_many_versions_as_of_few(installation, client, model):
    base = network(4)
    push(client, model, base.state_dict())
    statements = []
    for classes in range(6, 18):
        number = push(client, model, tuned(base, classes).state_dict())
        with counted(installation) as seen:
            found = get_lineage(installation.stores, CALLER, "vision", model.rpartition("/")[2], str(number))
        assert found.relation == "closest"
        statements.append(len(seen))

    assert statements[4] > 0
    assert max(statements[4:]) <= statements[4]


@pytest.fixture
def guarded(tmp_path):
    app = create_app(Settings(data=tmp_path / "data", teams=True, token=ROOT))
    with TestClient(app, base_url="http://models.example.com") as client:

        def ask(method, path, who=ROOT, **content):
            return client.request(method, f"{PREFIX}/{path}", headers={"Authorization": f"Bearer {who}"}, **content)

        yield ask


def test_a_lineage_names_only_what_its_reader_may_read(guarded):
    base = network(5)
    pushed = {"content": file_of(base.state_dict())}
    for model in ("audio/secret", "vision/private", "vision/open"):
        if model == "vision/open":
            pushed = {"content": file_of(tuned(base, 7).state_dict()), "params": {"base": "audio/secret:1"}}
        assert guarded("PUT", f"models/{model}/upload/model.pt", **pushed).status_code == 201
    guarded("PATCH", "models/vision/open", json={"visibility": "everyone"})
    tokens = {}
    for user in ("outsider", "member"):
        guarded("PUT", f"users/{user}", json={})
        if user == "member":
            guarded("PUT", "teams/vision/members/member", json={"role": "reader"})
        create = {"name": "t", "user": user, "scopes": ["read"]}
        tokens[user] = guarded("POST", "tokens", json=create).json()["token"]
    narrow = {"name": "t", "user": "member", "scopes": ["read"], "targets": ["vision/open"]}
    tokens["narrow"] = guarded("POST", "tokens", json=narrow).json()["token"]

    def told(who):
        return guarded("GET", "models/vision/open/versions/1/lineage", tokens.get(who, who)).json()

    assert (told(ROOT)["compared_with"], told(ROOT)["relation"]) == ("audio/secret:1", "base")
    assert (told("member")["compared_with"], told("member")["relation"]) == ("vision/private:1", "closest")
    for who in ("outsider", "narrow"):
        assert (told(who)["compared_with"], told(who)["text"]) == (None, "")
        assert "secret" not in json.dumps(told(who))
        for other in ("audio/secret:1", "vision/private:1"):
            hidden, none = (
                guarded("GET", f"models/vision/open/versions/1/diff/{each}", tokens[who])
                for each in (other, "vision/none:1")
            )
            assert (hidden.status_code, hidden.json()["code"]) == (none.status_code, none.json()["code"])
