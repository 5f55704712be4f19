"""Stores with a real catalog and a real folder, and a push through the use cases."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from behind import BACKENDS, Behind, in_bucket, in_folder
from embedded import make_weights
from migrated import migrated_sqlite

from registry.schema import VersionCreate, VersionInfo
from storage.access import Caller
from storage.draft import begin
from storage.installation import migrate, open_stores
from storage.publish import publish
from storage.stores import Stores

CALLER = Caller("tester", is_administrator=True)


@pytest.fixture
def open_installation(tmp_path: Path) -> Iterator[Callable[..., Stores]]:
    """Open stores with a folder of their own, on SQLite or the database at a URL."""
    with ExitStack() as stack:

        def open_one(name: str, database: str | None = None) -> Stores:
            (tmp_path / name).mkdir()
            url = database or migrated_sqlite(tmp_path / name / "catalog.sqlite")
            migrate(url)
            stores = open_stores(url, tmp_path / name / "blobs", reserve_bytes=0)
            stack.callback(stores.close)
            return stores

        yield open_one


@pytest.fixture
def push() -> Callable[..., VersionInfo]:
    """Push one file of weights."""

    def push_one(stores: Stores, model: str = "net", seed: int = 0, **metadata: object) -> VersionInfo:
        draft = begin(stores, CALLER, "vision", model)
        incoming = draft.open_file("model.pt")
        incoming.write(make_weights(seed))
        draft.close_file(incoming)
        return publish(draft, VersionCreate.model_validate(metadata))

    return push_one


@pytest.fixture(params=BACKENDS)
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Behind:
    """Every kind of backend, with hands on what it holds."""
    if request.param == "folder":
        return in_folder(tmp_path / "blobs")
    server = request.getfixturevalue({"seaweedfs": "seaweedfs", "gateway": "minio_gateway"}[request.param])
    return in_bucket(server, request.param)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of the kind that `in_pairs` asks for."""
    if request.param == "postgres":
        return request.getfixturevalue("migrated_postgres")
    return migrated_sqlite(tmp_path / "catalog.sqlite")
