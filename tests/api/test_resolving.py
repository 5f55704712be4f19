"""Which version a word means, asked again and again: told as the app tells it, and never what was true before."""

import json
import os
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError

import pytest
from embedded import make_weights
from migrated import migrated_data
from sqlalchemy import event, select, update
from starlette.testclient import TestClient
from support.service import running

from api.app import PREFIX, create_app
from api.settings import Settings
from registry.schema import AnnotationsUpdate
from storage.metadata.catalog import Catalog
from storage.metadata.records import Actor
from storage.metadata.team_tables import MemberRow, TokenRow, UserRow

ROOT = "the administrator's token of this test"
NET = "vision/net"
VERSION = f"models/{NET}/versions"
ELSEWHERE = Actor("somebody at another process")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Return the URL of a migrated database, and the settings of a service on it."""
    data = migrated_data(tmp_path / "data")
    if request.param == "sqlite":
        return f"sqlite:///{data}/catalog.sqlite", {"data": data}
    url = request.getfixturevalue("migrated_postgres")
    return url, {"data": data, "database_url": url}


@pytest.fixture
def app(database):
    return create_app(Settings(teams=True, token=ROOT, requests_per_minute=100_000, **database[1]))


@pytest.fixture
def client(app):
    with TestClient(app, base_url="http://models.example.com") as client:
        yield client


@pytest.fixture
def ask(client):
    """Return a function that asks as the holder of a token."""

    def ask(method, path, body=None, token=ROOT, **more):
        return client.request(
            method, f"{PREFIX}/{path}", json=body, headers={"Authorization": f"Bearer {token}"}, **more
        )

    return ask


@pytest.fixture
def token(ask):
    """Return a function that makes a user, who may be a member of `vision`, and returns a token of theirs."""

    def token(user, role=None, **create):
        ask("PUT", f"users/{user}", {})
        if role is not None:
            ask("PUT", f"teams/vision/members/{user}", {"role": role})
        made = ask("POST", "tokens", {"name": "a test", "user": user, "scopes": ["read"], **create})
        assert made.status_code == 201, made.text
        return made.json()["token"]

    return token


@pytest.fixture
def pushed(client):
    """Two versions; `prod` is the first."""
    for seed, query in ((0, {"alias": "prod", "metric.top1": 1e-7, "tag.data": "naïve ☃"}), (1, {})):
        answer = client.put(
            f"{PREFIX}/models/{NET}/upload/model.pt",
            content=make_weights(seed),
            params=query,
            headers={"Authorization": f"Bearer {ROOT}"},
        )
        assert answer.status_code == 201, answer.text


def seen(answer):
    """Return all that is told, but for what is new at each request."""
    return answer.status_code, [each for each in answer.headers.raw if each[0] != b"x-request-id"], answer.content


def test_what_is_told_past_the_app_is_what_the_app_tells_byte_for_byte(pushed, ask, token):
    for mine in (token("ada", "reader"), token("bob", "admin"), ROOT):
        for word in ("1", "v2", "prod", "latest"):
            by_app = seen(ask("GET", f"{VERSION}/{word}?deleted=false", token=mine))
            assert [seen(ask("GET", f"{VERSION}/{word}", token=mine)) for _ in range(2)] == [by_app, by_app]
            assert by_app[0] == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_second_question_waits_for_no_thread_and_no_transaction(pushed, app, ask, token):
    mine = token("ada", "reader")
    ask("GET", f"{VERSION}/prod", token=mine)
    sent = []
    event.listen(app.state.service.stores.catalog.database.engine, "before_cursor_execute", lambda *on: sent.append(on))

    assert ask("GET", f"{VERSION}/prod", token=mine).status_code == 200
    assert sent == []


def test_what_was_told_to_a_team_is_told_to_nobody_else(pushed, ask, token):
    member, stranger = token("ada", "reader"), token("eve")
    others, unread = token("bob", "reader", targets=["vision/other"]), token("cyd", "admin", scopes=["push"])
    for _ in range(2):
        assert ask("GET", f"{VERSION}/prod", token=member).status_code == 200

    for word in ("1", "prod", "latest"):
        told = ask("GET", f"{VERSION}/{word}", token=stranger).json()
        absent = ask("GET", f"models/vision/nat/versions/{word}", token=stranger).json()
        assert (told["status"], told["detail"]) == (404, absent["detail"].replace("vision/nat", NET))
        assert ask("GET", f"{VERSION}/{word}", token=others).status_code == 404
        assert ask("GET", f"{VERSION}/{word}", token=unread).status_code == 403
        assert ask("GET", f"{VERSION}/{word}", token="wb_" + "a" * 16 + "_" + "0" * 64).status_code == 401
    assert ask("GET", f"{VERSION}/prod", token=token("dan", "reader", targets=[NET])).status_code == 200


def test_what_everyone_may_read_is_told_to_everyone_as_long_as_they_may(pushed, ask, token):
    stranger, other = token("eve"), token("bob", targets=["text"])
    answers = []
    for visibility in ("team", "everyone", "team"):
        assert ask("PATCH", f"models/{NET}", {"visibility": visibility}).status_code == 200
        answers += [ask("GET", f"{VERSION}/prod", token=stranger).status_code for _ in range(2)]
        assert ask("GET", f"{VERSION}/prod", token=other).status_code == 404

    assert answers == [404, 404, 200, 200, 404, 404]


def test_questions_are_counted_logged_and_bounded_as_all_others_are(database, caplog):
    settings = Settings(teams=True, token=ROOT, requests_per_minute=20, **database[1])
    caplog.set_level("INFO", "weighbridge.access")
    with TestClient(create_app(settings), base_url="http://models.example.com") as client:
        as_root = {"Authorization": f"Bearer {ROOT}"}
        client.put(f"{PREFIX}/models/{NET}/upload/model.pt", content=make_weights(), headers=as_root)
        client.put(f"{PREFIX}/users/ada", json={"administrator": True}, headers=as_root)
        create = {"name": "a test", "user": "ada", "scopes": ["read"]}
        mine = client.post(f"{PREFIX}/tokens", json=create, headers=as_root).json()["token"]
        named = {"Authorization": f"Bearer {mine}", "X-Request-Id": "0123456789"}
        answers = [client.get(f"{PREFIX}/{VERSION}/1", headers=named) for _ in range(30)]
        figures = client.get("/metrics").text

    told, refused = answers[0], answers[-1]
    count = sum(answer.status_code == 200 for answer in answers)
    assert 20 <= count < 30
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) >= 1
    route = 'method="GET",route="/models/{team}/{model}/versions/{version}"'
    assert f'weighbridge_requests_total{{{route},status="200"}} {count}.0' in figures
    assert f'weighbridge_requests_total{{{route},status="429"}} {30 - count}.0' in figures
    lines = [each for each in caplog.records if each.path == f"{PREFIX}/{VERSION}/1"]
    assert [line.sent_bytes for line in lines] == [len(answer.content) for answer in answers]
    for answer in (told, refused):
        assert answer.headers["X-Request-Id"] == "0123456789"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_what_means_no_live_version_is_for_the_app_to_say(pushed, ask):
    assert ask("GET", f"{VERSION}/prod").status_code == 200

    missing = ("nowhere", "sha256:" + "0" * 64, "prod/", "", "prod%0A", "prod%2Fmore", "9" * 19)
    assert [ask("GET", f"{VERSION}/{word}").status_code for word in missing] == [404] * len(missing)
    assert ask("GET", "models/vision//versions/prod").status_code == 404
    assert ask("GET", f"{VERSION}/{'a' * 201}").status_code == 422
    assert ask("HEAD", f"{VERSION}/prod").status_code == 405


@pytest.fixture
def service(database, tmp_path):
    """A service in a process of its own, and the catalog as another process has it."""
    url, settings = database
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    own = {"WEIGHBRIDGE_TEAMS": "true", "WEIGHBRIDGE_TOKEN": ROOT, "WEIGHBRIDGE_REQUESTS_PER_MINUTE": "0"}
    named = {f"WEIGHBRIDGE_{name.upper()}": str(value) for name, value in settings.items()}
    catalog = Catalog.open(url)
    with running(tmp_path, [sys.executable, "-m", "api", "serve"], {**kept, **own, **named}) as service:
        yield service, catalog
    catalog.close()


def call(service, method, path, body=None, token=ROOT):
    """Return status and document of an answer of the service."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{service.url}{PREFIX}/{path}", data, headers, method=method)  # noqa: S310 - our own service on loopback
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error) | {"request_id": None}


def make_reader(service, user):
    call(service, "PUT", f"users/{user}", {})
    call(service, "PUT", f"teams/vision/members/{user}", {"role": "reader"})
    made = {"name": "a test", "user": user, "scopes": ["read"]}
    return call(service, "POST", "tokens", made)[1]["token"]


def test_what_another_process_changes_of_a_version_is_told_at_once(service):
    site, elsewhere = service
    for seed, alias in ((0, "?alias=prod"), (1, "")):
        assert call(site, "PUT", f"models/{NET}/upload/model.pt{alias}", make_weights(seed))[0] == 201
    mine = make_reader(site, "ada")
    named = tuple(NET.split("/"))

    def told(word="prod"):
        answers = [call(site, "GET", f"{VERSION}/{word}", token=mine) for _ in range(3)]
        assert answers == answers[:1] * 3
        return answers[0]

    assert (told()[1]["number"], told("latest")[1]["number"]) == (1, 2)
    elsewhere.move_alias(*named, "prod", 2, expected="any", by=ELSEWHERE)
    assert (told()[1]["number"], told()[1]["aliases"], told("1")[1]["aliases"]) == (2, ["prod"], [])
    elsewhere.annotate(*named, 2, AnnotationsUpdate(deprecated="worse"), None, ELSEWHERE)
    assert (told()[1]["annotations"]["deprecated"], told("latest")[1]["number"]) == ("worse", 1)
    elsewhere.remove_alias(*named, "prod", by=ELSEWHERE)
    assert told()[1]["code"] == "alias_not_found"
    elsewhere.delete_version(*named, 1, ELSEWHERE)
    assert (told("1")[1]["code"], told("latest")[1]["code"]) == ("version_not_found", "version_not_found")
    elsewhere.restore_version(*named, 1, ELSEWHERE)
    assert told("1")[1]["number"] == 1
    elsewhere.delete_model(*named, ELSEWHERE)
    assert told("1")[1]["code"] == "model_not_found"


def test_who_loses_a_right_by_another_process_is_told_nothing_more(service):
    site, elsewhere = service
    assert call(site, "PUT", f"models/{NET}/upload/model.pt?alias=prod", make_weights())[0] == 201
    assert call(site, "PUT", "teams/text", {})[0] == 201
    now = datetime.now(UTC)
    changes = (
        (update(TokenRow).values(revoked_at=now, revoked_by="another process"), 401),
        (update(TokenRow).values(expires_at=now - timedelta(seconds=1)), 401),
        (update(TokenRow).values(digest="sha256:of another secret"), 401),
        (update(UserRow).values(disabled_at=now), 401),
        (update(MemberRow).values(team="text"), 404),
        (update(TokenRow).values(scopes=["push"]), 403),
        (update(TokenRow).values(targets=["vision/other"]), 404),
    )
    readers = [make_reader(site, f"reader{number}") for number in range(len(changes))]
    for number, (change, status) in enumerate(changes):
        user = select(UserRow.id).where(UserRow.name == f"reader{number}").scalar_subquery()
        theirs = change.where(change.table.c.get("user_id", change.table.c.get("id")) == user)
        before = [call(site, "GET", f"{VERSION}/prod", token=readers[number])[0] for _ in range(3)]

        elsewhere.database.write(lambda session, change=theirs: session.execute(change))

        assert (before, call(site, "GET", f"{VERSION}/prod", token=readers[number])[0]) == ([200] * 3, status)
