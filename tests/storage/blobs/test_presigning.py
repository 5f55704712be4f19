"""What somebody without credentials may do with a presigned request, on servers that verify signatures."""

import dataclasses
import time

import pytest
import urllib3
from bucket_stores import open_minio, open_s3

from registry.digest import sha256_digest
from registry.errors import BlobNotFoundError, IncompleteUploadError
from storage.blobs.base import new_location
from storage.blobs.gathering import Part

MIB = 1 << 20
SEVERAL_PARTS = bytes(range(256)) * (6 * MIB // 256) + b"the end"


def write(store, location, data):
    with store.create(location) as writer:
        writer.write(data)
        writer.commit()


def read(store, location):
    return b"".join(store.stream(location))


def request(signed, *, method=None, headers=None, body=None):
    with urllib3.PoolManager(retries=False) as http:
        return http.request(
            method or signed.method, signed.url, headers=signed.headers if headers is None else headers, body=body
        )


def test_a_presigned_range_needs_no_credentials(bucket, location):
    write(bucket.store, location, SEVERAL_PARTS)
    signed = bucket.store.presign_read(location, 5 * MIB, 100, 60)
    answer = request(signed)

    assert signed.method == "GET"
    assert signed.headers == {"Range": f"bytes={5 * MIB}-{5 * MIB + 99}"}
    assert answer.status == 206
    assert answer.data == SEVERAL_PARTS[5 * MIB : 5 * MIB + 100]


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=10-20"}, {"Range": "bytes=0-19"}, {"Range": "bytes=10-"}])
def test_another_range_than_the_presigned_one_is_refused(bucket, location, headers):
    write(bucket.store, location, b"0123456789" * 10)
    signed = bucket.store.presign_read(location, 10, 10, 60)

    assert request(signed).data == b"0123456789"
    assert request(signed, headers=headers).status in (400, 403)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_url_for_reading_changes_nothing(bucket, location, method):
    write(bucket.store, location, b"0123456789")
    signed = bucket.store.presign_read(location, 0, 10, 60)

    assert request(signed, method=method, body=b"other" if method == "PUT" else None).status == 403
    assert read(bucket.store, location) == b"0123456789"


def test_a_url_for_one_location_reads_no_other(bucket, location):
    other = new_location()
    write(bucket.store, location, b"0123456789")
    write(bucket.store, other, b"a secret!!")
    signed = bucket.store.presign_read(location, 0, 10, 60)
    forged = dataclasses.replace(signed, url=signed.url.replace(location, other))

    assert request(forged).status == 403


def test_parts_sent_by_url_are_joined(bucket, location):
    upload_id = bucket.store.begin_multipart(location, 1)
    parts = []
    for number, start in enumerate(range(0, len(SEVERAL_PARTS), 5 * MIB), 1):
        signed = bucket.store.presign_part(location, upload_id, number, 60)
        answer = request(signed, body=SEVERAL_PARTS[start : start + 5 * MIB])
        assert (signed.method, answer.status) == ("PUT", 200)
        parts.append(Part(number, answer.headers["ETag"]))
    with pytest.raises(BlobNotFoundError):
        bucket.store.size_bytes(location)

    bucket.store.complete_multipart(location, upload_id, parts)

    assert sha256_digest(read(bucket.store, location)) == sha256_digest(SEVERAL_PARTS)


def send_one_part(store, location, data):
    upload_id = store.begin_multipart(location, 1)
    signed = store.presign_part(location, upload_id, 1, 60)
    return upload_id, signed, Part(1, request(signed, body=data).headers["ETag"])


def test_a_part_url_is_dead_after_the_completion(bucket, location):
    upload_id, signed, part = send_one_part(bucket.store, location, b"verified")
    bucket.store.complete_multipart(location, upload_id, [part])

    assert request(signed, body=b"replaced").status == 404
    assert read(bucket.store, location) == b"verified"


def test_completing_twice_is_fine(bucket, location):
    upload_id, _, part = send_one_part(bucket.store, location, b"once")
    bucket.store.complete_multipart(location, upload_id, [part])
    bucket.store.complete_multipart(location, upload_id, [part])

    assert read(bucket.store, location) == b"once"


def test_an_aborted_upload_is_gone_with_its_urls(bucket, location):
    upload_id, signed, part = send_one_part(bucket.store, location, b"dropped")
    bucket.store.abort_multipart(location, upload_id)
    bucket.store.abort_multipart(location, upload_id)

    assert request(signed, body=b"too late").status == 404
    with pytest.raises(IncompleteUploadError):
        bucket.store.complete_multipart(location, upload_id, [part])
    with pytest.raises(BlobNotFoundError):
        bucket.store.size_bytes(location)
    assert bucket.list_leftovers() == []


def test_an_upload_id_that_never_was_is_aborted_in_peace(bucket, location):
    bucket.store.abort_multipart(location, "never-was")


@pytest.mark.parametrize(
    "parts",
    [lambda part: [Part(1, '"' + "0" * 32 + '"')], lambda part: [part, Part(2, part.etag)], lambda part: []],
    ids=["another etag", "one too many", "none"],
)
def test_parts_that_the_store_does_not_hold_are_not_joined(bucket, location, parts):
    upload_id, _, part = send_one_part(bucket.store, location, b"sent")
    with pytest.raises(IncompleteUploadError):
        bucket.store.complete_multipart(location, upload_id, parts(part))

    with pytest.raises(BlobNotFoundError):
        bucket.store.size_bytes(location)
    bucket.store.clear(location)


@pytest.mark.parametrize("number", [0, 10_001])
def test_part_numbers_outside_of_s3s_are_refused(bucket, location, number):
    with pytest.raises(ValueError, match="part numbers"):
        bucket.store.presign_part(location, "an-upload", number, 60)


def test_a_url_dies_at_its_time(seaweedfs, minio_gateway):
    signed = []
    for store in [opened(server) for opened in (open_s3, open_minio) for server in (seaweedfs, minio_gateway)]:
        location = new_location()
        write(store, location, b"0123456789")
        signed.append(store.presign_read(location, 0, 10, 1))
    time.sleep(2.1)

    assert [request(each).status for each in signed] == [403] * 4
