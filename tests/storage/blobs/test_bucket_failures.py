"""A bucket that is away, full, missing, closed to us, or breaks connections."""

import dataclasses
import secrets

import pytest
from bucket_stores import open_s3
from cutting_proxy import cutting_proxy

from registry.errors import (
    BlobNotFoundError,
    BlobStoreUnavailableError,
    IncompleteUploadError,
    StorageFullError,
    TooLargeError,
)
from storage.blobs.base import new_location
from storage.blobs.bucket import bucket_error

SERVERS = ["seaweedfs", "minio_gateway"]
MIB = 1 << 20
DATA = bytes(range(256)) * (3 * MIB // 256)


@pytest.fixture(params=SERVERS)
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def prefix():
    return f"test-{secrets.token_hex(6)}"


def write(store, data):
    location = new_location()
    with store.create(location) as writer:
        writer.write(data)
        writer.commit()
    return location


def test_a_server_that_is_away_is_named(open_bucket, server):
    store = open_bucket(dataclasses.replace(server, endpoint_url="http://127.0.0.1:9"))

    with pytest.raises(BlobStoreUnavailableError, match="did not answer"):
        store.check()
    with pytest.raises(BlobStoreUnavailableError, match="did not answer"):
        write(store, b"data")


def test_a_wrong_secret_key_is_named(open_bucket, server):
    store = open_bucket(dataclasses.replace(server, secret_key="wrong" * 8))

    with pytest.raises(BlobStoreUnavailableError, match="secret key"):
        store.check()
    with pytest.raises(BlobStoreUnavailableError, match="secret key") as raised:
        store.read_many(new_location(), [(0, 1)])
    assert "wrong" * 8 not in raised.value.detail


def test_an_unknown_access_key_is_named(open_bucket, server):
    store = open_bucket(dataclasses.replace(server, access_key="nobody"))

    with pytest.raises(BlobStoreUnavailableError, match="access key"):
        store.check()
    with pytest.raises(BlobStoreUnavailableError, match="access key"):
        write(store, b"data")


def test_a_bucket_that_is_not_there_is_named(open_bucket, server):
    store = open_bucket(dataclasses.replace(server, bucket="no-such-bucket"))

    with pytest.raises(BlobStoreUnavailableError, match="There is no bucket no-such-bucket"):
        store.check()
    with pytest.raises(BlobStoreUnavailableError, match="There is no bucket no-such-bucket"):
        b"".join(store.stream(new_location()))


def test_a_download_is_taken_up_again_after_a_broken_connection(open_bucket, server, prefix):
    with cutting_proxy(server) as proxy:
        store = open_bucket(server, prefix, proxy.endpoint_url)
        location = write(store, DATA)
        proxy.cut_after_bytes, proxy.cuts_left = 1_300_000, 2

        assert b"".join(store.stream(location)) == DATA
        assert proxy.cuts_made == 2
        assert store.read_many(location, [(0, 5), (2 * MIB, MIB)]) == [DATA[:5], DATA[2 * MIB :]]


def test_a_download_that_gets_nowhere_gives_up(open_bucket, server, prefix):
    with cutting_proxy(server) as proxy:
        store = open_bucket(server, prefix, proxy.endpoint_url)
        location = write(store, DATA)
        proxy.cut_after_bytes, proxy.cuts_left = 0, 1_000_000

        with pytest.raises(BlobStoreUnavailableError, match="did not answer"):
            b"".join(store.stream(location))


def test_a_completion_whose_answer_was_lost_still_counts(open_bucket, server, prefix):
    with cutting_proxy(server) as proxy:
        store = open_bucket(server, prefix, proxy.endpoint_url)
        proxy.only_after, proxy.cuts_left = b"</CompleteMultipartUpload>", 1
        location = write(store, DATA * 2)

        assert proxy.cuts_made == 1
        assert b"".join(store.stream(location)) == DATA * 2


def test_more_parts_than_s3_takes_are_refused(monkeypatch, server, prefix):
    monkeypatch.setattr("storage.blobs.bucket_store.MAX_PARTS", 1)
    store = open_s3(server, prefix)

    with pytest.raises(TooLargeError, match="part"):
        write(store, bytes(11 * MIB))
    assert server.client().list_multipart_uploads(Bucket=server.bucket, Prefix=prefix).get("Uploads", []) == []


@pytest.mark.parametrize(
    ("code", "status", "key", "expected"),
    [
        ("XMinioStorageFull", 507, "k", StorageFullError),
        ("XMinioAdminBucketQuotaExceeded", 400, "k", StorageFullError),
        ("QuotaExceeded", 403, "k", StorageFullError),
        ("Unknown", 507, "k", StorageFullError),
        ("404", 404, "k", BlobNotFoundError),
        ("NoSuchKey", 404, "k", BlobNotFoundError),
        ("404", 404, None, BlobStoreUnavailableError),
        ("NoSuchBucket", 404, "k", BlobStoreUnavailableError),
        ("NoSuchUpload", 404, "k", IncompleteUploadError),
        ("InvalidPart", 400, "k", IncompleteUploadError),
        ("InvalidRange", 416, "k", ValueError),
        ("416", 416, "k", ValueError),
        ("AccessDenied", 403, "k", BlobStoreUnavailableError),
        ("SlowDown", 503, "k", BlobStoreUnavailableError),
        ("InternalError", 500, "k", BlobStoreUnavailableError),
        ("BadDigest", 400, "k", BlobStoreUnavailableError),
    ],
)
def test_each_answer_has_its_meaning(code, status, key, expected):
    assert type(bucket_error(code, status, "Said so.", bucket="models", key=key)) is expected
