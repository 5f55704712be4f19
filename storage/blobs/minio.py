"""Blobs in a bucket by the MinIO SDK: for MinIO and those who keep to its library."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

from minio import Minio, datatypes
from minio.error import MinioException, S3Error, ServerError
from pydantic import SecretStr
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from registry.errors import BlobStoreUnavailableError, ConfigurationError
from storage.blobs.base import READ_PIECE_BYTES
from storage.blobs.bucket import OBJECT_TYPE, Bucket, bucket_error
from storage.blobs.bucket_store import DEFAULT_PART_BYTES, BucketBlobStore
from storage.blobs.gathering import Part
from storage.blobs.signed import SignedRequest
from storage.blobs.sigv4 import SigningKey, presign

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
RETRIES = 2
CONNECTIONS = 32


class MinioBlobStore(BucketBlobStore):
    """A bucket that the MinIO SDK talks to.

    Args:
        endpoint: `host:port`, without a scheme.
        bucket: its name; it must exist.
        prefix: a folder in it.
        access_key: the user's name.
        secret_key: the user's password.
        secure: whether to speak https.
        public_endpoint_url: where clients reach it, when by another name: presigned URLs carry this one.
        region: the server's region.
        part_bytes: what a writer holds in memory, and the size of the parts it sends.
        timeout_seconds: how long the bucket may be silent.

    Raises:
        ConfigurationError: the SDK cannot make a client of this.
    """

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        prefix: str = "",
        *,
        access_key: str | None = None,
        secret_key: SecretStr | None = None,
        secure: bool = True,
        public_endpoint_url: str | None = None,
        region: str | None = None,
        part_bytes: int = DEFAULT_PART_BYTES,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        if access_key is None or secret_key is None:
            raise ConfigurationError("The MinIO SDK needs an access key and a secret key: set both.")
        key = SigningKey(access_key, secret_key.get_secret_value(), region or "us-east-1")
        try:
            client = PushingMinio(
                endpoint,
                access_key=key.access_key,
                secret_key=key.secret_key,
                secure=secure,
                region=key.region,
                http_client=_connections(timeout_seconds),
            )
        except ValueError as error:
            raise ConfigurationError(f"The MinIO SDK cannot use these bucket settings: {error}") from error
        public = public_endpoint_url or f"{'https' if secure else 'http'}://{endpoint}"
        super().__init__(MinioBucket(bucket, client, key, public.rstrip("/")), prefix, part_bytes)


def _connections(timeout_seconds: float) -> PoolManager:
    return PoolManager(
        maxsize=CONNECTIONS,
        timeout=Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=timeout_seconds),
        retries=Retry(
            total=RETRIES,
            backoff_factor=0.2,
            status_forcelist=[500, 502, 503, 504],
            raise_on_status=False,  # the last answer says more than "too many 503"
        ),
    )


class PushingMinio(Minio):
    """The SDK's multipart calls, under names of ours.

    The SDK's public `put_object` pulls from a reader, while our bytes are pushed: that would take a thread and a
    pipe for each write, and it has no public way to sign or join parts that clients send. The calls that it
    is itself built of do all of it; the conformance suite watches them, and the requirement stays below version 8.
    """

    def put(self, bucket: str, key: str, data: bytearray | bytes, headers: dict[str, str]) -> None:
        """Store an object in one request."""
        self._put_object(bucket, key, _body(data), {**headers})

    def begin_upload(self, bucket: str, key: str) -> str:
        """Open a multipart upload and return its id."""
        return self._create_multipart_upload(bucket, key, {})

    def send_part(self, bucket: str, key: str, upload_id: str, number: int, data: bytearray) -> str:
        """Store one part and return its ETag."""
        return self._upload_part(bucket, key, _body(data), None, upload_id, number)

    def complete_upload(self, bucket: str, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Join the parts."""
        joined = [datatypes.Part(part.number, part.etag.strip('"')) for part in parts]
        self._complete_multipart_upload(bucket, key, upload_id, joined)

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop an upload."""
        self._abort_multipart_upload(bucket, key, upload_id)

    def list_parts(self, bucket: str, key: str, upload_id: str) -> list[Part]:
        """Return the parts that an upload has."""
        found: list[Part] = []
        marker = None
        while True:
            page = self._list_parts(bucket, key, upload_id, part_number_marker=marker)
            found += [Part(part.part_number, part.etag, part.size) for part in page.parts]
            if not page.is_truncated or not page.parts:
                return found
            marker = str(page.parts[-1].part_number)

    def list_upload_ids(self, bucket: str, key: str) -> list[str]:
        """Return the open multipart uploads of exactly this key, up to 1,000."""
        uploads = self._list_multipart_uploads(bucket, prefix=key).uploads
        return [upload.upload_id for upload in uploads if upload.object_name == key and upload.upload_id]


class MinioBucket(Bucket):
    """The calls of one bucket over the MinIO SDK. What clients will send is signed for `public_url`."""

    def __init__(self, name: str, client: PushingMinio, key: SigningKey, public_url: str) -> None:
        self._name = name
        self._client = client
        self._signing_key = key
        self._public_url = public_url

    def put(self, key: str, data: bytearray | bytes, *, only_if_absent: bool = False) -> None:
        """Store an object in one request."""
        with self._translated(key):
            try:
                self._client.put(self._name, key, data, {"If-None-Match": "*"} if only_if_absent else {})
            except S3Error as error:
                if not (only_if_absent and error.code == "PreconditionFailed"):
                    raise

    def get(self, key: str, offset: int, length: int | None) -> Iterator[bytes]:
        """Yield what there is of a range."""
        with self._translated(key):
            body = self._client.get_object(self._name, key, offset, length or 0)
            try:
                while piece := body.read(READ_PIECE_BYTES):
                    yield piece
            finally:
                body.close()
                body.release_conn()

    def size_bytes(self, key: str) -> int:
        """Return an object's size."""
        with self._translated(key):
            return self._client.stat_object(self._name, key).size or 0

    def delete(self, key: str) -> None:
        """Remove an object, or nothing."""
        with self._translated(key):
            self._client.remove_object(self._name, key)

    def iter_keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`."""
        with self._translated(None):
            for found in self._client.list_objects(self._name, prefix, recursive=True):
                yield cast("str", found.object_name)

    def begin_upload(self, key: str) -> str:
        """Open a multipart upload and return its id."""
        with self._translated(key):
            return self._client.begin_upload(self._name, key)

    def send_part(self, key: str, upload_id: str, number: int, data: bytearray) -> Part:
        """Store one part."""
        with self._translated(key):
            return Part(number, self._client.send_part(self._name, key, upload_id, number, data))

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """Return the parts that an upload has."""
        with self._translated(key):
            return self._client.list_parts(self._name, key, upload_id)

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Join the parts."""
        with self._translated(key):
            self._client.complete_upload(self._name, key, upload_id, parts)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload."""
        with self._translated(key):
            self._client.abort_upload(self._name, key, upload_id)

    def list_upload_ids(self, key: str) -> list[str]:
        """Return the open multipart uploads of exactly this key."""
        with self._translated(None):
            return self._client.list_upload_ids(self._name, key)

    def presign_get(self, key: str, offset: int, length: int, ttl_seconds: int) -> SignedRequest:
        """Return a GET whose signature covers the `Range` header."""
        return self._presign("GET", key, {}, {"Range": f"bytes={offset}-{offset + length - 1}"}, ttl_seconds)

    def presign_object(self, key: str, disposition: str, ttl_seconds: int) -> SignedRequest:
        """Return a GET of a whole object."""
        answered = {"response-content-disposition": disposition, "response-content-type": OBJECT_TYPE}
        return self._presign("GET", key, answered, {}, ttl_seconds)

    def presign_part(self, key: str, upload_id: str, number: int, ttl_seconds: int) -> SignedRequest:
        """Return a PUT of one part."""
        return self._presign("PUT", key, {"uploadId": upload_id, "partNumber": str(number)}, {}, ttl_seconds)

    def check(self) -> None:
        """Return when the bucket is there and lets us in."""
        with self._translated(None):
            found = self._client.bucket_exists(self._name)
        if not found:
            raise bucket_error("NoSuchBucket", 404, "", bucket=self._name, key=None)

    def _presign(
        self, method: str, key: str, query: dict[str, str], headers: dict[str, str], ttl_seconds: int
    ) -> SignedRequest:
        now = datetime.now(UTC)
        target = f"{self._public_url}/{self._name}/{key}"
        url = presign(self._signing_key, method, target, query=query, headers=headers, now=now, ttl_seconds=ttl_seconds)
        return SignedRequest(method, url, headers, now + timedelta(seconds=ttl_seconds))

    @contextmanager
    def _translated(self, key: str | None) -> Generator[None, None, None]:
        """Turn the exceptions of the SDK and of urllib3 into the registry's errors."""
        try:
            yield
        except S3Error as error:
            code, message = error.code or "an error", error.message or ""
            raise bucket_error(code, error.response.status, message, bucket=self._name, key=key) from error
        except ServerError as error:
            raise bucket_error("an error", error.status_code, str(error), bucket=self._name, key=key) from error
        except (MinioException, HTTPError) as error:
            raise BlobStoreUnavailableError(
                f"The bucket {self._name} did not answer: {error}. Look at the endpoint and the bucket's server."
            ) from error


def _body(data: bytearray | bytes) -> bytes:
    """Return `data` itself: the SDK hashes and sends a bytearray as well, its annotations don't know."""
    return cast("bytes", data)
