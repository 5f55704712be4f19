"""Blobs in an S3 bucket by boto3: AWS, SeaweedFS, Ceph, MinIO and whatever else speaks S3."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)
from pydantic import SecretStr

from registry.errors import BlobStoreUnavailableError, ConfigurationError
from storage.blobs.base import READ_PIECE_BYTES
from storage.blobs.bucket import OBJECT_TYPE, Bucket, bucket_error
from storage.blobs.bucket_store import DEFAULT_PART_BYTES, BucketBlobStore
from storage.blobs.gathering import Part
from storage.blobs.signed import SignedRequest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AddressingStyle: TypeAlias = Literal["auto", "path", "virtual"]

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
ATTEMPTS = 3
CONNECTIONS = 32


class S3BlobStore(BucketBlobStore):
    """A bucket that boto3 talks to.

    Args:
        bucket: its name; it must exist.
        prefix: a folder in it.
        endpoint_url: where the service reaches it; None is AWS.
        public_endpoint_url: where clients reach it, when by another name: presigned URLs carry this one.
        region: None asks boto3's configuration, and is `us-east-1` with an endpoint.
        access_key: None asks boto3's default chain (environment, profile, role).
        secret_key: belongs to `access_key`.
        addressing_style: `path` puts the bucket in the path; the default does so with an endpoint.
        part_bytes: what a writer holds in memory, and the size of the parts it sends.
        timeout_seconds: how long the bucket may be silent.

    Raises:
        ConfigurationError: boto3 cannot make a client of this.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        public_endpoint_url: str | None = None,
        region: str | None = None,
        access_key: str | None = None,
        secret_key: SecretStr | None = None,
        addressing_style: AddressingStyle | None = None,
        part_bytes: int = DEFAULT_PART_BYTES,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        if (access_key is None) != (secret_key is None):
            raise ConfigurationError("An access key and its secret key come together: set both, or none.")
        settings: dict[str, Any] = {
            "region_name": region or ("us-east-1" if endpoint_url else None),
            "aws_access_key_id": access_key,
            "aws_secret_access_key": secret_key.get_secret_value() if secret_key else None,
            "config": _config(addressing_style or ("path" if endpoint_url else "auto"), timeout_seconds),
        }
        session = cast("Any", boto3)  # the stubs know a client for each of 400 services, most of them unknown
        try:
            client = session.client("s3", endpoint_url=endpoint_url, **settings)
            public = client
            if public_endpoint_url:
                public = session.client("s3", endpoint_url=public_endpoint_url, **settings)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"boto3 cannot use these bucket settings: {error}") from error
        super().__init__(S3Bucket(bucket, client, public), prefix, part_bytes)


def _config(addressing_style: AddressingStyle, timeout_seconds: float) -> Config:
    """Return how boto3 behaves here.

    Checksum trailers are off also on AWS: some servers reject or even store them, and parts that clients
    send by presigned URL carry none, which AWS refuses to join with parts that do.
    """
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": addressing_style},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


class S3Bucket(Bucket):
    """The calls of one bucket over boto3 clients: one to talk by, one to sign what clients will send."""

    def __init__(self, name: str, client: "S3Client", public: "S3Client") -> None:
        self._name = name
        self._client = client
        self._public = public

    def put(self, key: str, data: bytearray | bytes, *, only_if_absent: bool = False) -> None:
        """Store an object in one request."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if only_if_absent else {}
        with self._translated(key):
            try:
                self._client.put_object(Bucket=self._name, Key=key, Body=_body(data), **condition)
            except ClientError as error:
                if not (only_if_absent and _status(error.response) == 412):  # noqa: PLR2004 - Precondition Failed
                    raise

    def get(self, key: str, offset: int, length: int | None) -> Iterator[bytes]:
        """Yield what there is of a range."""
        with self._translated(key):
            wanted: dict[str, Any] = {} if length is None and not offset else {"Range": _range(offset, length)}
            body = self._client.get_object(Bucket=self._name, Key=key, **wanted)["Body"]
            try:
                while piece := body.read(READ_PIECE_BYTES):
                    yield piece
            finally:
                body.close()

    def size_bytes(self, key: str) -> int:
        """Return an object's size."""
        with self._translated(key):
            return self._client.head_object(Bucket=self._name, Key=key)["ContentLength"]

    def delete(self, key: str) -> None:
        """Remove an object, or nothing."""
        with self._translated(key):
            self._client.delete_object(Bucket=self._name, Key=key)

    def iter_keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        with self._translated(None):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix)
            for page in pages:
                yield from (found["Key"] for found in page.get("Contents", []) if "Key" in found)

    def begin_upload(self, key: str) -> str:
        """Open a multipart upload and return its id."""
        with self._translated(key):
            return self._client.create_multipart_upload(Bucket=self._name, Key=key)["UploadId"]

    def send_part(self, key: str, upload_id: str, number: int, data: bytearray) -> Part:
        """Store one part."""
        with self._translated(key):
            answer = self._client.upload_part(
                Bucket=self._name, Key=key, UploadId=upload_id, PartNumber=number, Body=_body(data)
            )
            return Part(number, answer["ETag"])

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that an upload has."""
        with self._translated(key):
            pages = self._client.get_paginator("list_parts").paginate(Bucket=self._name, Key=key, UploadId=upload_id)
            found = [part for page in pages for part in page.get("Parts", [])]
        return [Part(part["PartNumber"], part["ETag"], part["Size"]) for part in found]  # pyright: ignore[reportTypedDictNotRequiredAccess] - S3 says all three of each

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Join the parts."""
        with self._translated(key):
            self._client.complete_multipart_upload(
                Bucket=self._name,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": part.number, "ETag": part.etag} for part in parts]},
            )

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload."""
        with self._translated(key):
            self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id)

    def list_upload_ids(self, key: str) -> list[str]:
        """Return the open multipart uploads of exactly this key."""
        with self._translated(None):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name, Prefix=key)
            uploads = [upload for page in pages for upload in page.get("Uploads", [])]
            return [upload["UploadId"] for upload in uploads if upload.get("Key") == key and "UploadId" in upload]

    def presign_get(self, key: str, offset: int, length: int, ttl_seconds: int) -> SignedRequest:
        """Return a GET whose signature covers the `Range` header."""
        headers = {"Range": _range(offset, length)}
        return self._presign("GET", "get_object", {"Key": key, **headers}, headers, ttl_seconds)

    def presign_object(self, key: str, disposition: str, ttl_seconds: int) -> SignedRequest:
        """Return a GET of a whole object."""
        answered = {"ResponseContentDisposition": disposition, "ResponseContentType": OBJECT_TYPE}
        return self._presign("GET", "get_object", {"Key": key, **answered}, {}, ttl_seconds)

    def presign_part(self, key: str, upload_id: str, number: int, ttl_seconds: int) -> SignedRequest:
        """Return a PUT of one part."""
        return self._presign(
            "PUT", "upload_part", {"Key": key, "UploadId": upload_id, "PartNumber": number}, {}, ttl_seconds
        )

    def check(self) -> None:
        """Return when the bucket is there and lets us in."""
        with self._translated(None):
            self._client.head_bucket(Bucket=self._name)

    def _presign(
        self, method: str, call: str, parameters: dict[str, Any], headers: dict[str, str], ttl_seconds: int
    ) -> SignedRequest:
        with self._translated(parameters["Key"]):
            expires_at = datetime.now(UTC) + timedelta(seconds=ttl_seconds)
            url = self._public.generate_presigned_url(
                call, Params={"Bucket": self._name, **parameters}, ExpiresIn=ttl_seconds
            )
            return SignedRequest(method, url, headers, expires_at)

    @contextmanager
    def _translated(self, key: str | None) -> Generator[None, None, None]:
        """Turn boto3's exceptions into the registry's errors."""
        try:
            yield
        except ClientError as error:
            said = error.response.get("Error", {})
            code, message = said.get("Code", "an error"), said.get("Message", "")
            raise bucket_error(code, _status(error.response), message, bucket=self._name, key=key) from error
        except (NoCredentialsError, PartialCredentialsError, NoRegionError) as error:
            raise BlobStoreUnavailableError(
                f"No credentials or region for the bucket {self._name}: {error}. Set the access key and secret key."
            ) from error
        except BotoCoreError as error:
            raise BlobStoreUnavailableError(
                f"The bucket {self._name} did not answer: {error}. Look at the endpoint and the bucket's server."
            ) from error


def _body(data: bytearray | bytes) -> bytes:
    """Return `data` itself: boto3 takes a bytearray, its stubs don't know."""
    return cast("bytes", data)


def _range(offset: int, length: int | None) -> str:
    return f"bytes={offset}-{'' if length is None else offset + length - 1}"


def _status(response: Mapping[str, Any]) -> int:
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
