"""What is needed is away or full: a named error, nothing half-written, and work again when it is back."""

import pytest
from embedded import Installation, make_weights
from sqlalchemy import make_url
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from storage.metadata.migrate import upgrade


def test_a_full_disk_refuses_pushes_and_nothing_else(tmp_path, weights):
    with TestClient(create_app(Settings(data=tmp_path)), base_url="http://localhost") as client:
        client.put("/api/v1/models/vision/net/upload/model.pt", content=weights)
    app = create_app(Settings(data=tmp_path, reserve_bytes=1 << 60))
    with TestClient(app, base_url="http://localhost") as client:
        before = Installation(app, client, tmp_path).stored()
        full = client.put("/api/v1/models/vision/net/upload/model.pt", content=make_weights(1))
        same = client.get("/api/v1/models/vision/net/versions/1/artifacts/model.pt")
        deleted = client.delete("/api/v1/models/vision/net/versions/1")

        assert (full.status_code, full.json()["code"]) == (507, "storage_full")
        assert same.content == weights
        assert deleted.status_code == 200
        assert Installation(app, client, tmp_path).stored() == before


def test_a_blob_folder_that_is_away_refuses_pushes_until_it_is_back(installation, client, model, weights):
    before = installation.stored()
    blobs = installation.folder / "blobs"
    away = blobs.rename(blobs.with_name("away"))
    try:
        refused = client.put(f"{model}/upload/model.pt", content=weights)
    finally:
        away.rename(blobs)

    assert (refused.status_code, refused.json()["code"]) == (503, "blob_store_unavailable")
    assert refused.headers["Retry-After"] == "5"
    left = installation.stored()
    assert {**left, "write_intents": 0, "doomed": 0} == before
    assert client.put(f"{model}/upload/model.pt", content=weights).status_code == 201


@pytest.fixture
def on_postgres(postgres_database, tmp_path):
    upgrade(postgres_database)
    app = create_app(Settings(data=tmp_path, database_url=postgres_database))
    with TestClient(app, base_url="http://localhost") as client:
        yield Installation(app, client, tmp_path)


def test_a_database_that_is_away_is_said_by_name_until_it_is_back(
    on_postgres, postgres, postgres_database, model, weights
):
    client = on_postgres.client
    name = make_url(postgres_database).database
    assert client.put(f"{model}/upload/model.pt", content=weights).status_code == 201
    before = on_postgres.stored()

    postgres.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - our own name
    refused = [client.get(model), client.put(f"{model}/upload/model.pt", content=make_weights(1))]
    unready = client.get("/readyz")
    postgres.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (503, "catalog_unavailable")
        assert "Retry-After" in answer.headers
    assert unready.json()["checks"]["catalog"] is not None
    assert on_postgres.stored() == before
    assert client.get(f"{model}/versions/1/artifacts/model.pt").content == weights
