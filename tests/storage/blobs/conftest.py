"""Every backend of the blob store, each on every server that it must work with."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bucket_stores import open_minio, open_s3

from storage.blobs.base import BlobStore, new_location
from storage.blobs.local import LocalBlobStore

if TYPE_CHECKING:
    from servers import BucketServer

FOLDER = ["local"]
REAL_BUCKETS = ["s3-on-seaweedfs", "s3-on-minio", "minio-on-seaweedfs", "minio-on-minio"]
MOCKED_BUCKETS = ["s3-on-moto"]


@dataclass(frozen=True, slots=True)
class Backend:
    """A store, and ways to act and look behind its back."""

    name: str
    store: BlobStore
    plant: Callable[[str, bytes], None]
    list_leftovers: Callable[[], list[str]]


@pytest.fixture(params=[*FOLDER, *MOCKED_BUCKETS, *REAL_BUCKETS])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every backend; each test must leave it without temporary files and open uploads."""
    yield from _checked(request)


@pytest.fixture(params=[*FOLDER, *REAL_BUCKETS])
def backend_elsewhere(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backends that keep nothing in this process's memory, as moto does."""
    yield from _checked(request)


@pytest.fixture(params=REAL_BUCKETS)
def bucket(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The backends that presign, on servers that verify signatures (moto does not)."""
    yield from _checked(request)


@pytest.fixture
def store(backend: Backend) -> BlobStore:
    return backend.store


@pytest.fixture
def location() -> str:
    return new_location()


def _checked(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made = _make(request.param, request)
    yield made
    assert made.list_leftovers() == []


def _make(name: str, request: pytest.FixtureRequest) -> Backend:
    if name == "local":
        return _make_local(request.getfixturevalue("tmp_path") / "blobs")
    fixtures = {"moto": "moto_s3", "seaweedfs": "seaweedfs", "minio": "minio_gateway"}
    library, _, where = name.partition("-on-")
    server: BucketServer = request.getfixturevalue(fixtures[where])
    prefix = f"test-{secrets.token_hex(6)}"
    opened = {"s3": open_s3, "minio": open_minio}[library](server, prefix)
    client = server.client()

    def plant(location: str, data: bytes) -> None:
        client.put_object(Bucket=server.bucket, Key=f"{prefix}/objects/{location}", Body=data)

    def list_leftovers() -> list[str]:
        answer = client.list_multipart_uploads(Bucket=server.bucket, Prefix=prefix)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    return Backend(name, opened, plant, list_leftovers)


def _make_local(root: Path) -> Backend:
    def plant(location: str, data: bytes) -> None:
        path = root / "objects" / location
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return Backend("local", LocalBlobStore(root), plant, lambda: [path.name for path in (root / "tmp").iterdir()])


@pytest.fixture(params=[open_s3, open_minio], ids=["s3", "minio"])
def open_bucket(request: pytest.FixtureRequest) -> Callable[..., BlobStore]:
    """Either library's way to open a store on a server."""
    return request.param
