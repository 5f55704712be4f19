"""Planned uploads over real S3 servers: parts go straight to the bucket, and what was verified stays as it is."""

import hashlib
import io
import uuid

import pytest
import torch
import urllib3
from deltas import net, push_delta, saved
from migrated import migrated_data
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from storage.uploads import planning

PART = 5 << 20
"""The least that S3 joins."""


@pytest.fixture(params=["seaweedfs-boto3", "gateway-minio"])
def remote(request, tmp_path, monkeypatch):
    """A service over a bucket, and a way to list the multipart uploads that are open there."""
    monkeypatch.setattr(planning, "DIRECT_PART_BYTES", PART)
    monkeypatch.setattr(planning, "RELAYED_PART_BYTES", PART)
    prefix = uuid.uuid4().hex
    name, opened = {"seaweedfs-boto3": ("seaweedfs", "s3"), "gateway-minio": ("minio_gateway", "minio")}[request.param]
    server = request.getfixturevalue(name)
    if opened == "s3":
        where = f"s3://{server.bucket}/{prefix}?endpoint={server.endpoint_url}&region={server.region}"
    else:
        where = f"minio://{server.host_and_port}/{server.bucket}/{prefix}?secure=false"
    settings = Settings(
        data=migrated_data(tmp_path),
        blobs_url=where,
        blobs_access_key=server.access_key,
        blobs_secret_key=server.secret_key,
    )
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        yield client, lambda: left_in(server, prefix)


def left_in(server, prefix):
    listed = server.client().list_objects_v2(Bucket=server.bucket, Prefix=f"{prefix}/objects/")
    uploads = server.client().list_multipart_uploads(Bucket=server.bucket, Prefix=prefix)
    return [each["Key"] for each in listed.get("Contents", [])], uploads.get("Uploads", [])


@pytest.fixture(scope="module")
def large():
    file = io.BytesIO()
    torch.save({"fc.weight": torch.arange(3_000_000, dtype=torch.float32)}, file)
    return file.getvalue()


def begin(client, model, data, **more):
    create = {"metadata": {"artifacts": {"model.pt": {"size_bytes": len(data)}}}, **more}
    answer = client.post(f"{model}/uploads", json=create)
    assert answer.status_code == 201, answer.text
    return f"{model}/uploads/{answer.json()['id']}"


def requests_for(client, upload, numbers):
    return client.post(f"{upload}/parts", json={"path": "model.pt", "numbers": list(numbers)}).json()["parts"]


def send(client, part, data):
    """Send a part to where the plan says, and return the status."""
    body = data[part["offset"] : part["offset"] + part["length"]]
    if part["url"].startswith("/"):
        return client.put(part["url"], content=body, headers=part["headers"]).status_code
    with urllib3.PoolManager(retries=False) as http:
        return http.request("PUT", part["url"], body=body, headers=part["headers"]).status


@pytest.mark.parametrize("direct", [True, False])
def test_parts_straight_to_the_bucket_or_through_the_service_become_the_version(remote, model, large, direct):
    client, left = remote
    upload = begin(client, model, large, direct=direct)
    parts = requests_for(client, upload, [1, 2, 3])
    assert all(part["url"].startswith("http") == direct for part in parts)

    assert [send(client, part, large) for part in (parts[2], parts[0])] == [200 if direct else 204] * 2
    assert client.get(upload).json()["files"][0]["missing"] == [[2, 2]]
    send(client, parts[1], large)
    answer = client.post(f"{upload}/complete")

    assert answer.status_code == 201, answer.text
    assert answer.json()["artifacts"][0]["sha256"] == f"sha256:{hashlib.sha256(large).hexdigest()}"
    assert client.get(f"{model}/versions/1/artifacts/model.pt?direct=false").content == large
    assert (len(left()[0]), left()[1]) == (1, [])


def test_a_url_of_a_part_is_dead_once_the_upload_is_complete(remote, model, large):
    client, left = remote
    upload = begin(client, model, large)
    parts = requests_for(client, upload, [1, 2, 3])
    for part in parts:
        send(client, part, large)
    assert client.post(f"{upload}/complete").status_code == 201

    late = send(client, parts[0], bytes(len(large)))

    assert late in {400, 403, 404}
    assert client.get(f"{model}/versions/1/artifacts/model.pt?direct=false").content == large
    assert left()[1] == []


def test_a_part_of_another_size_counts_as_missing(remote, model, large):
    client, _ = remote
    upload = begin(client, model, large)
    first, second, third = requests_for(client, upload, [1, 2, 3])
    send(client, first, large)
    send(client, {**second, "length": PART - 1}, large)
    send(client, third, large)
    refused = client.post(f"{upload}/complete")
    assert (refused.json()["code"], refused.json()["missing"]) == ("incomplete_upload", [[2, 2]])
    assert client.delete(upload).status_code == 204


def test_what_fails_or_is_aborted_leaves_nothing_in_the_bucket(remote, model, large):
    client, left = remote
    broken = bytearray(large)
    broken[-200:] = bytes(200)
    failing = begin(client, model, large)
    for part in requests_for(client, failing, [1, 2, 3]):
        send(client, part, bytes(broken))
    assert client.post(f"{failing}/complete").json()["code"] == "malformed_artifact"

    aborted = begin(client, model, large)
    send(client, requests_for(client, aborted, [1])[0], large)
    assert client.delete(aborted).status_code == 204

    assert left() == ([], [])


@pytest.mark.parametrize("direct", [True, False])
def test_only_what_is_new_goes_to_the_bucket_and_the_file_comes_back(remote, model, direct):
    client, left = remote
    base, tuned = saved(net(1)), saved(net(1, head=1, statistics=1))

    def put(part, body):
        with urllib3.PoolManager(retries=False) as http:
            assert http.request("PUT", part["url"], body=body, headers=part["headers"]).status == 200

    pushed = [push_delta(client, model, data, put=put, direct=direct) for data in (base, tuned, tuned)]

    assert [answer.status_code for answer, _ in pushed] == [201] * 3
    assert [sent < 0.05 * len(tuned) for _, sent in pushed] == [False, True, True]
    assert pushed[2][1] == 0
    assert (len(left()[0]), left()[1]) == (2, [])
    at = f"{model}/versions/2/artifacts/model.pt"
    assert client.get(at).content == tuned  # the service assembles it: no URL leads to a whole object
    assert client.get(at, headers={"Range": "bytes=5000-600000"}).content == tuned[5000:600001]
    assert client.head(at).headers["etag"] == f'"{hashlib.sha256(tuned).hexdigest()}"'
