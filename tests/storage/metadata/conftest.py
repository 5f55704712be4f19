"""Every test of the catalog runs on SQLite and on PostgreSQL, each time in a clean, migrated database."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from actors import ADA
from migrated import migrated_sqlite
from sqlalchemy import func, select

from registry.digest import StreamDigests, blake3_digest, sha256_digest
from registry.schema import ArtifactInfo, VersionCreate
from storage.blobs.base import new_location
from storage.metadata.catalog import Catalog
from storage.metadata.records import NewArtifact, NewStorage, NewVersion


@pytest.fixture
def sqlite_url(tmp_path):
    return migrated_sqlite(tmp_path / "catalog.db")


@pytest.fixture
def postgres_url(migrated_postgres):
    return migrated_postgres


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request):
    """A migrated, empty database."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def catalog(database_url):
    catalog = Catalog.open(database_url)
    yield catalog
    catalog.close()


@pytest.fixture
def prepare(catalog):
    """Return a function that begins the writes of a push and returns what it would publish."""

    def prepare(full_name="vision/resnet50", files=None, *, by=ADA, **details):
        team, model = full_name.split("/")
        artifacts = tuple(
            new_artifact(catalog, team, path, data) for path, data in (files or {"model.pt": b"weights"}).items()
        )
        metadata = {name: details.pop(name) for name in list(details) if name in VersionCreate.model_fields}
        defaults = {"kind": "state_dict", "trust": "tensors", "weights": (artifacts[0].info.path,)}
        defaults |= {"weights_problem": None, "fingerprint": "fingerprint"}
        return NewVersion(team, model, by, VersionCreate(**metadata), artifacts, **{**defaults, **details})

    return prepare


@pytest.fixture
def push(catalog, prepare):
    """Return a function that publishes files as the next version of a model."""
    return lambda *args, **details: catalog.publish(prepare(*args, **details))


def new_artifact(catalog, team, path, data):
    """Return what the publishing pass would say of the file; every 8 bytes of it are a storage."""
    location = new_location()
    catalog.begin_write(location, team, "ada", datetime.now(UTC) + timedelta(hours=1))
    spans = [(offset, 8) for offset in range(0, len(data) - 7, 8)]
    digests = StreamDigests(spans, len(data))
    digests.update(data)
    storages = tuple(NewStorage(blake3_digest(data[at : at + size]), at, size) for at, size in spans)
    manifest = manifest_bytes = None
    if path.endswith(".pt"):
        manifest_bytes = json.dumps({"of": digests.blake3}).encode()
        manifest = sha256_digest(manifest_bytes)
    info = ArtifactInfo(
        path=path, size_bytes=len(data), sha256=digests.sha256, blake3=digests.blake3, manifest=manifest,
        format="torch-zip" if manifest else None, kind="state_dict" if manifest else "opaque",
    )  # fmt: skip
    return NewArtifact(info, location, storages, manifest_bytes)


@pytest.fixture
def rows(catalog):
    """Return a function that counts the rows of a table."""
    return lambda row: catalog.database.read(lambda session: session.scalar(select(func.count()).select_from(row)))


@pytest.fixture
def at_once():
    """Return a function that runs another one in many threads at one moment and returns what each gave or raised."""

    def run(count, work):
        barrier = threading.Barrier(count)

        def one(number):
            barrier.wait()
            try:
                return work(number)
            except Exception as error:  # noqa: BLE001 - the test looks at whatever it is
                return error

        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(one, range(count)))

    return run
