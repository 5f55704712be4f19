"""Stores on every kind of backend, and ways to change what is stored behind their back."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from servers import BucketServer

from storage.installation import migrate, open_stores
from storage.stores import Stores

BACKENDS = ("folder", "seaweedfs", "gateway")
in_pairs = pytest.mark.parametrize(
    ("behind", "database"),
    [("folder", "sqlite"), ("seaweedfs", "postgres"), ("gateway", "sqlite"), ("folder", "postgres")],
    indirect=True,
)
"""Each kind of backend and of database, and not all pairs of them: neither knows of the other."""


@dataclass(frozen=True, slots=True)
class Behind:
    """Where an installation's bytes are, and hands on them.

    Attributes:
        blobs: the URL or folder of its blob store.
        keys: that its settings need.
        read: the bytes at a key such as `objects/…`.
        put: bytes at a key.
        remove: a key.
    """

    blobs: str
    keys: dict[str, str]
    read: Callable[[str], bytes]
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]

    @contextmanager
    def stores(self, database: str, *, adopts_registry: bool = False) -> Iterator[Stores]:
        """Open it on a database, which is migrated."""
        migrate(database)
        secret = self.keys.get("secret_key")
        stores = open_stores(
            database,
            self.blobs,
            access_key=self.keys.get("access_key"),
            secret_key=SecretStr(secret) if secret else None,
            reserve_bytes=0,
            adopts_registry=adopts_registry,
        )
        try:
            yield stores
        finally:
            stores.close()


def in_folder(folder: Path) -> Behind:
    """Bytes in a folder."""

    def put(key: str, data: bytes) -> None:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)

    return Behind(str(folder), {}, lambda key: (folder / key).read_bytes(), put, lambda key: (folder / key).unlink())


def in_bucket(server: BucketServer, kind: str) -> Behind:
    """Bytes below a prefix of a bucket, by boto3 or MinIO's SDK."""
    prefix = f"test-{secrets.token_hex(6)}"
    client, bucket = server.client(), server.bucket
    if kind == "seaweedfs":
        url = f"s3://{bucket}/{prefix}?endpoint={server.endpoint_url}&region={server.region}"
    else:
        url = f"minio://{server.host_and_port}/{bucket}/{prefix}?secure=false"
    return Behind(
        url,
        {"access_key": server.access_key, "secret_key": server.secret_key},
        lambda key: client.get_object(Bucket=bucket, Key=f"{prefix}/{key}")["Body"].read(),
        lambda key, data: client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=data),
        lambda key: client.delete_object(Bucket=bucket, Key=f"{prefix}/{key}"),
    )
