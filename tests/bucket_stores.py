"""Blob stores on the test servers, by either library."""

from pydantic import SecretStr
from servers import BucketServer

from storage.blobs.minio import MinioBlobStore
from storage.blobs.s3 import S3BlobStore

PART_BYTES = 5 << 20
"""S3's smallest part, so that small tests send several."""


def open_s3(server: BucketServer, prefix: str = "", endpoint_url: str | None = None) -> S3BlobStore:
    """Return a store on `server` by boto3, through another address when given."""
    return S3BlobStore(
        server.bucket,
        prefix,
        endpoint_url=endpoint_url or server.endpoint_url,
        access_key=server.access_key,
        secret_key=SecretStr(server.secret_key),
        part_bytes=PART_BYTES,
    )


def open_minio(server: BucketServer, prefix: str = "", endpoint_url: str | None = None) -> MinioBlobStore:
    """Return a store on `server` by the MinIO SDK, through another address when given."""
    return MinioBlobStore(
        (endpoint_url or server.endpoint_url).removeprefix("http://"),
        server.bucket,
        prefix,
        access_key=server.access_key,
        secret_key=SecretStr(server.secret_key),
        secure=False,
        part_bytes=PART_BYTES,
    )
