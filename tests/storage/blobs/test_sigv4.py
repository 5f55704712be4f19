"""Our presigned URLs against those of botocore, which is the reference."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from botocore.config import Config

from storage.blobs.sigv4 import SigningKey, presign

KEY = "some/folder/ab/cd/file~name_1.bin"


def sign_by_botocore(session_token, call, parameters):
    client = boto3.client(
        "s3",
        endpoint_url="https://bucket.example:9000",
        region_name="eu-central-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="secret/with+signs",
        aws_session_token=session_token,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return client.generate_presigned_url(call, Params={"Bucket": "models", "Key": KEY, **parameters}, ExpiresIn=300)


@pytest.mark.parametrize("session_token", [None, "a/session+token=="])
@pytest.mark.parametrize(
    ("method", "call", "signed"),
    [
        ("GET", ("get_object", {"Range": "bytes=5-9"}), {"query": {}, "headers": {"Range": "bytes=5-9"}}),
        (
            "PUT",
            ("upload_part", {"UploadId": "a+b/c==", "PartNumber": 7}),
            {"query": {"uploadId": "a+b/c==", "partNumber": "7"}, "headers": {}},
        ),
    ],
)
def test_a_url_carries_the_signature_that_botocore_computes(session_token, method, call, signed):
    theirs = urlsplit(sign_by_botocore(session_token, *call))
    said = dict(parse_qsl(theirs.query))
    ours = urlsplit(
        presign(
            SigningKey("AKIAEXAMPLE", "secret/with+signs", "eu-central-1", session_token),
            method,
            f"https://bucket.example:9000/models/{KEY}",
            **signed,
            now=datetime.strptime(said["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
            ttl_seconds=300,
        )
    )

    assert (ours.scheme, ours.netloc, ours.path) == (theirs.scheme, theirs.netloc, theirs.path)
    assert dict(parse_qsl(ours.query)) == said


def test_a_signing_key_hides_its_secret():
    assert "hush" not in repr(SigningKey("someone", "hush", "us-east-1", "hush-hush"))
