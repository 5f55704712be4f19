"""What the service does by itself beside requests, and what its operator is told by `fsck`."""

import json
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from embedded import API
from sqlalchemy import delete, update
from starlette.testclient import TestClient

from api import collector
from api.__main__ import main
from api.app import create_app
from api.settings import Settings
from storage.garbage import UNEXPLAINED_BYTES
from storage.metadata.tables import ExtentRow, ObjectRow

MODEL = f"{API}/models/vision/net"
WAIT_SECONDS = 20


@pytest.fixture
def run(tmp_path):
    """Run a command on the installation in a folder."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env={"WEIGHBRIDGE_DATA": str(tmp_path / "data")})

    return invoke


@pytest.fixture
def serving(tmp_path, monkeypatch):
    """Serve the installation in a folder; records are written without delay."""
    monkeypatch.setattr(collector, "RECORD_SECONDS", 0.05)

    def serve(**settings: object) -> TestClient:
        return TestClient(create_app(Settings(data=tmp_path / "data", **settings)), base_url="http://localhost")

    return serve


def wait_for(true) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_held(pool, seconds: float) -> bool:
    """Return whether a connection of the pool is in somebody's hand all the while."""
    end = time.monotonic() + seconds
    while pool.checkedout() and time.monotonic() < end:
        time.sleep(0.005)
    return time.monotonic() >= end


def some_object(tmp_path: Path) -> Path:
    return next(path for path in (tmp_path / "data" / "blobs" / "objects").rglob("*") if path.is_file())


def lose_rows(session):
    session.execute(delete(ExtentRow))
    session.execute(update(ObjectRow).values(size_bytes=UNEXPLAINED_BYTES + 1))


def test_the_service_writes_down_each_version_soon_after_it_answered(serving, weights, tmp_path):
    with serving() as client:
        assert client.put(f"{MODEL}/upload/model.pt", content=weights).status_code == 201
        record = tmp_path / "data" / "blobs" / "records" / "vision" / "net" / "1.json"
        wait_for(record.exists)
    assert json.loads(record.read_bytes())["version"]["number"] == 1


def test_a_service_ends_after_what_it_does_beside_requests(serving, weights, tmp_path):
    with serving(collect_seconds=1) as client:
        client.put(f"{MODEL}/upload/model.pt", content=weights)
        other = sqlite3.connect(tmp_path / "data" / "catalog.sqlite", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")  # another process writes: whoever writes here waits, a connection in hand
        pool = client.app.state.service.stores.catalog.database.engine.pool
        wait_for(lambda: is_held(pool, 0.3))
        release = threading.Timer(0.5, other.rollback)
        release.start()
    assert not other.in_transaction
    release.join()
    other.close()


def test_a_refused_collection_is_counted_and_logged(serving, weights, caplog):
    with serving(collect_seconds=1) as client:
        client.put(f"{MODEL}/upload/model.pt", content=weights)
        client.app.state.service.stores.catalog.database.write(lose_rows)
        wait_for(lambda: 'weighbridge_collections_total{outcome="refused"}' in client.get("/metrics").text)
    assert "Garbage is not collected until somebody looks" in caplog.text


def test_a_damaged_version_is_told_to_operators_readers_and_programs(serving, run, weights, tmp_path):
    with serving() as client:
        client.put(f"{MODEL}/upload/model.pt", content=weights)
    assert (run("fsck", "--repair").exit_code, run("fsck", "--verify-bytes").exit_code) == (0, 0)
    some_object(tmp_path).write_bytes(weights[:-1])

    found = run("fsck", "--repair", "--json")

    assert found.exit_code == 1
    finding, counts = map(json.loads, found.stdout.splitlines())
    assert (finding["kind"], finding["versions"]) == ("object_wrong_size", ["vision/net:1/model.pt"])
    assert counts == {"counts": {"object_wrong_size": 1}, "total": 1, "mended": 0}
    assert "vision/net:1/model.pt" in run("fsck").stdout
    with serving() as client:
        assert client.get(f"{MODEL}/versions/1").json()["damaged"] == ["model.pt"]
        assert client.get(MODEL).json()["damaged_versions"] == 1
        answer = client.get(f"{MODEL}/versions/1/artifacts/model.pt")
        assert (answer.status_code, answer.json()["code"]) == (500, "blob_damaged")
        assert client.put(f"{MODEL}/upload/model.pt", content=weights).json()["number"] == 2
        assert client.get(f"{MODEL}/versions/1/artifacts/model.pt").content == weights


def test_bytes_that_are_cut_off_and_not_found_out_yet_are_named_too(serving, weights, tmp_path):
    with serving() as client:
        client.put(f"{MODEL}/upload/model.pt", content=weights)
        some_object(tmp_path).write_bytes(weights[:100])
        answer = client.get(f"{MODEL}/versions/1/artifacts/model.pt")
        assert (answer.status_code, answer.json()["code"]) == (500, "blob_damaged")


def test_a_lost_database_is_rebuilt_by_command(serving, run, weights, tmp_path):
    with serving() as client:
        told = client.put(f"{MODEL}/upload/model.pt", content=weights, params={"alias": "prod"}).json()
    assert run("fsck", "--repair").exit_code == 0
    assert run("fsck", "--rebuild").exit_code == 1
    for path in (tmp_path / "data").glob("catalog.sqlite*"):
        path.unlink()

    rebuilt = run("fsck", "--rebuild")

    assert (rebuilt.exit_code, rebuilt.stdout) == (0, "rebuilt   vision/net/1.json\n")
    assert "a backup has them" in rebuilt.stderr
    with serving() as client:
        assert client.get(f"{MODEL}/versions/prod").json() == told
        assert client.get(f"{MODEL}/versions/1/artifacts/model.pt").content == weights
