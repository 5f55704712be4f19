"""The app over real S3 servers: the same bytes back, and nothing left in the bucket by a push that fails."""

import uuid

import pytest
from migrated import migrated_data
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings


@pytest.fixture(params=["seaweedfs-boto3", "gateway-minio"])
def bucket(request):
    """A server, the URL of a prefix of its bucket, and that prefix."""
    prefix = uuid.uuid4().hex
    if request.param == "seaweedfs-boto3":
        server = request.getfixturevalue("seaweedfs")
        return server, f"s3://{server.bucket}/{prefix}?endpoint={server.endpoint_url}&region={server.region}", prefix
    server = request.getfixturevalue("minio_gateway")
    return server, f"minio://{server.host_and_port}/{server.bucket}/{prefix}?secure=false", prefix


@pytest.fixture
def client(bucket, tmp_path):
    server, url, _ = bucket
    settings = Settings(
        data=migrated_data(tmp_path),
        blobs_url=url,
        blobs_access_key=server.access_key,
        blobs_secret_key=server.secret_key,
    )
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        yield client


def keys_of(bucket) -> set[str]:
    server, _, prefix = bucket
    listed = server.client().list_objects_v2(Bucket=server.bucket, Prefix=prefix)
    # Records are written a little later.
    return {each["Key"] for each in listed.get("Contents", []) if "/records/" not in each["Key"]}


def test_what_goes_into_a_bucket_comes_out_whole_and_in_ranges(client, model, weights):
    client.put(f"{model}/upload/model.pt", content=weights)
    url = f"{model}/versions/1/artifacts/model.pt"

    assert client.get(url, params={"direct": False}).content == weights
    through = client.get(url, params={"direct": False}, headers={"Range": "bytes=1000-1999"})
    assert through.content == weights[1000:2000]
    assert client.get(f"{model}/versions/1/manifest").status_code == 200


def test_a_refused_push_and_repeated_content_leave_nothing_in_the_bucket(client, bucket, model, weights):
    client.put(f"{model}/upload/model.pt", content=weights)
    before = keys_of(bucket)

    assert client.put(f"{model}/upload/model.pt", content=weights[:-100]).status_code == 422
    assert client.put(f"{model}/upload/model.pt", content=weights, params={"sha256": "0" * 64}).status_code == 422
    assert client.put(f"{model}/upload/model.pt", content=weights).json()["number"] == 2

    assert keys_of(bucket) == before
