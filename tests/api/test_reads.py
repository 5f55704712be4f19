"""Where bytes live: exactly the runs that were asked for, by URLs that give nothing else."""

import hashlib
import io
import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
import torch
import urllib3
from migrated import migrated_data
from sqlalchemy import text
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from registry.reads import MAX_RUN_BYTES
from storage import reads

OTHER_NAME = "localhost"
"""Of the bucket's machine, as clients call it; the service calls it by its address."""


@pytest.fixture(params=["seaweedfs-boto3", "gateway-minio"])
def bucket(request):
    """A server, and the URL of a prefix of its bucket with another name for clients."""
    prefix = uuid.uuid4().hex
    name, opened = {"seaweedfs-boto3": ("seaweedfs", "s3"), "gateway-minio": ("minio_gateway", "minio")}[request.param]
    server = request.getfixturevalue(name)
    public = f"public_endpoint={server.endpoint_url.replace('127.0.0.1', OTHER_NAME)}"
    if opened == "s3":
        where = f"s3://{server.bucket}/{prefix}?endpoint={server.endpoint_url}&region={server.region}&{public}"
    else:
        where = f"minio://{server.host_and_port}/{server.bucket}/{prefix}?secure=false&{public}"
    return server, where


def serve(bucket, folder, **given):
    server, where = bucket
    settings = Settings(
        data=migrated_data(folder),
        blobs_url=where,
        blobs_access_key=server.access_key,
        blobs_secret_key=server.secret_key,
        **given,
    )
    return TestClient(create_app(settings), base_url="http://localhost", follow_redirects=False)


@pytest.fixture
def remote(bucket, tmp_path):
    """A service over a bucket."""
    with serve(bucket, tmp_path) as client:
        yield client


def ask(client, model, *artifacts, **more):
    return client.post(f"{model}/versions/1/reads", json={"artifacts": list(artifacts), **more})


def take(client, run):
    """Return what a run brings, by whichever way it says."""
    if urlsplit(run["url"]).netloc:
        with urllib3.PoolManager(retries=False) as http:
            return http.request(run["method"], run["url"], headers=run["headers"]).data
    return client.request(run["method"], run["url"], headers=run["headers"]).content


def fetch(url, **headers):
    with urllib3.PoolManager(retries=False) as http:
        return http.request("GET", url, headers=headers)


@pytest.mark.parametrize("ranges", [None, [[0, 1000]], [[5, 1], [70, 3], [0, 10]]])
def test_the_runs_are_what_was_asked_for_from_a_folder(client, model, pushed, weights, ranges):
    answer = ask(client, model, {"path": "model.pt", "ranges": ranges})

    runs = answer.json()["runs"]
    wanted = ranges or [[0, len(weights)]]
    assert answer.headers["Cache-Control"] == "no-store"
    assert [[run["offset"], run["length"]] for run in runs] == wanted
    assert [take(client, run) for run in runs] == [weights[offset : offset + length] for offset, length in wanted]
    assert {run["expires_at"] for run in runs} == {None}


def test_the_runs_are_what_was_asked_for_from_a_bucket(remote, model, weights):
    remote.put(f"{model}/upload/model.pt", content=weights)

    runs = ask(remote, model, {"path": "model.pt", "ranges": [[10, 90], [0, 5]]}).json()["runs"]

    assert [take(remote, run) for run in runs] == [weights[10:100], weights[0:5]]
    assert {urlsplit(run["url"]).hostname for run in runs} == {OTHER_NAME}
    lives = {datetime.fromisoformat(run["expires_at"]) - datetime.now(UTC) for run in runs}
    assert max(lives) <= timedelta(minutes=5)


def test_a_url_of_a_run_gives_no_other_bytes(remote, model, weights):
    remote.put(f"{model}/upload/model.pt", content=weights)
    (run,) = ask(remote, model, {"path": "model.pt", "ranges": [[100, 50]]}).json()["runs"]

    others = [{}, {"Range": "bytes=0-99"}, {"Range": "bytes=100-150"}, {"Range": "bytes=100-"}]

    assert all(fetch(run["url"], **headers).status in {400, 403} for headers in others)


def test_whoever_asks_for_it_gets_the_bytes_through_the_service(remote, model, weights):
    remote.put(f"{model}/upload/model.pt", content=weights)

    (run,) = ask(remote, model, {"path": "model.pt"}, direct=False).json()["runs"]

    assert urlsplit(run["url"]).netloc == ""
    assert take(remote, run) == weights


def test_an_installation_whose_bucket_nobody_reaches_gives_no_urls_of_it(bucket, tmp_path, model, weights):
    with serve(bucket, tmp_path, direct=False) as client:
        client.put(f"{model}/upload/model.pt", content=weights)

        (run,) = ask(client, model, {"path": "model.pt"}).json()["runs"]
        whole = client.get(f"{model}/versions/1/artifacts/model.pt")

    assert urlsplit(run["url"]).netloc == ""
    assert (whole.status_code, whole.content) == (200, weights)


def test_a_run_is_never_long(remote, client, monkeypatch, model, pushed, weights):
    monkeypatch.setattr(reads, "MAX_RUN_BYTES", 1000)
    remote.put(f"{model}/upload/model.pt", content=weights)

    for service in (client, remote):
        runs = ask(service, model, {"path": "model.pt", "ranges": [[500, 2500]]}).json()["runs"]

        assert [(run["offset"], run["length"]) for run in runs] == [(500, 1000), (1500, 1000), (2500, 500)]
        assert b"".join(take(service, run) for run in runs) == weights[500:3000]


def test_an_artifact_in_pieces_is_read_in_its_own_pieces_and_by_no_url_of_an_object(remote, model, weights):
    others = b"a pack with the end of it, and what is of others"
    remote.post(f"{model}/versions", files=[("file", ("model.pt", weights)), ("file", ("other.txt", others))])
    service = remote.app.state.service
    with service.stores.catalog.database.engine.begin() as rows:
        (artifact,) = rows.execute(text("SELECT min(id) FROM artifacts")).one()
        (pack,) = rows.execute(text("SELECT id FROM objects WHERE size_bytes = :size"), {"size": len(others)}).one()
        rows.execute(text("UPDATE extents SET length = 100 WHERE artifact_id = :id"), {"id": artifact})
        rows.execute(text("INSERT INTO extents VALUES (:id, 1, :pack, 7, 20)"), {"id": artifact, "pack": pack})
        rows.execute(text("UPDATE artifacts SET size_bytes = 120 WHERE id = :id"), {"id": artifact})

    runs = ask(remote, model, {"path": "model.pt", "ranges": [[90, 25]]}).json()["runs"]

    assert [(run["offset"], run["length"]) for run in runs] == [(90, 10), (100, 15)]
    assert [take(remote, run) for run in runs] == [weights[90:100], b"with the end of"]
    assert remote.get(f"{model}/versions/1/artifacts/model.pt").status_code == 200


def test_a_part_of_an_object_is_no_whole_object(remote, model, weights):
    remote.put(f"{model}/upload/model.pt", content=weights)
    with remote.app.state.service.stores.catalog.database.engine.begin() as rows:
        rows.execute(text("UPDATE extents SET length = 100"))
        rows.execute(text("UPDATE artifacts SET size_bytes = 100"))

    answer = remote.get(f"{model}/versions/1/artifacts/model.pt")

    assert (answer.status_code, answer.content) == (200, weights[:100])


def test_a_whole_file_of_tensors_is_where_the_bucket_is(remote, model, weights):
    remote.put(f"{model}/upload/größe.pt", content=weights)
    url = f"{model}/versions/1/artifacts/größe.pt"

    answer = remote.get(url)
    target = answer.headers["Location"]
    got = fetch(target)

    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert urlsplit(target).hostname == OTHER_NAME
    assert (got.status, got.data) == (200, weights)
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["Content-Disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.pt"
    assert fetch(target, Range="bytes=100-199").data == weights[100:200]
    assert fetch(target.replace("gr%25C3", "xx%25C3")).status == 403


def test_conditions_and_heads_are_answered_here(remote, model, weights):
    remote.put(f"{model}/upload/model.pt", content=weights)
    url = f"{model}/versions/1/artifacts/model.pt"
    etag = f'"{hashlib.sha256(weights).hexdigest()}"'

    assert remote.head(url).status_code == 200
    assert remote.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert remote.get(url, headers={"Range": "bytes=5-", "If-Range": etag}).content == weights[5:]
    assert remote.get(url, headers={"Range": "bytes=99999999-"}).status_code == 416
    assert remote.get(url, params={"direct": False}).content == weights


def test_what_runs_code_never_leaves_but_through_the_service(remote, model):
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), file)
    module = file.getvalue()
    pushed = remote.put(f"{model}/upload/module.pt", content=module)
    assert pushed.json()["trust"] == "code", pushed.text

    (run,) = ask(remote, model, {"path": "module.pt"}).json()["runs"]
    whole = remote.get(f"{model}/versions/1/artifacts/module.pt")

    assert urlsplit(run["url"]).netloc == ""
    assert take(remote, run) == module
    assert (whole.status_code, whole.content) == (200, module)


@pytest.mark.parametrize(
    ("artifacts", "status", "code"),
    [
        ([{"path": "other.pt"}], 404, "artifact_not_found"),
        ([{"path": "model.pt", "ranges": [[0, 99_999_999]]}], 416, "range_not_satisfiable"),
        ([{"path": "model.pt", "ranges": [[0, 0]]}], 422, "invalid_metadata"),
        ([{"path": "model.pt", "ranges": [[-1, 5]]}], 422, "invalid_metadata"),
        ([{"path": "model.pt", "ranges": []}], 422, "invalid_metadata"),
        ([], 422, "invalid_metadata"),
        ([{"path": "model.pt", "ranges": [[0, 1]] * 1025}], 422, "invalid_metadata"),
        ([{"path": "model.pt", "ranges": [[0, 1]] * 600}] * 2, 413, "limit_exceeded"),
        ([{"path": "model.pt"}] * 101, 422, "invalid_metadata"),
    ],
)
def test_what_cannot_be_read_is_a_named_error(client, model, pushed, artifacts, status, code):
    answer = ask(client, model, *artifacts)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_several_artifacts_are_of_one_version_and_in_the_order_asked(client, model, weights):
    files = [("file", ("a.txt", b"first")), ("file", ("b.txt", b"second"))]
    client.post(f"{model}/versions", files=files)

    answer = client.post(
        f"{model}/versions/latest/reads",
        json={"artifacts": [{"path": "b.txt"}, {"path": "a.txt", "ranges": [[1, 2]]}]},
    ).json()

    assert answer["version"] == 1
    assert [(run["path"], take(client, run)) for run in answer["runs"]] == [("b.txt", b"second"), ("a.txt", b"ir")]
    assert all(run["length"] <= MAX_RUN_BYTES for run in answer["runs"])
