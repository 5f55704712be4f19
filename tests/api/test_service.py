"""What the service says of itself: info, health, figures, logs, documentation."""

import io
import json
import logging
import re
from pathlib import Path

import pytest
from pythonjsonlogger.json import JsonFormatter

from api.logs import configure_logging, make_formatter
from api.middleware import access_log
from api.openapi import describe

ROOT = Path(__file__).parents[2]


def test_the_service_says_who_it_is(client):
    info = client.get("/api/v1").json()

    assert info["name"] == "weighbridge"
    assert re.fullmatch("[0-9a-f]{32}", info["registry_id"])
    assert info["limits"] == {
        "max_artifact_bytes": 8 << 20, "max_artifacts": 20, "max_metadata_bytes": 16 << 10, "max_page": 1000,
    }  # fmt: skip
    assert info["default_team"] == "shared"


def test_ready_means_that_every_part_answers(client):
    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert set(answer.json()["checks"]) == {"catalog", "blobs", "scanner", "draining"}
    assert answer.json()["confinement"]["open_files"]


def test_a_folder_that_is_away_makes_the_service_unready_and_reads_fail_by_name(installation, client):
    objects = installation.folder / "blobs" / "objects"
    away = objects.rename(objects.with_name("away"))
    try:
        answer = client.get("/readyz")
        alive = client.get("/healthz")
    finally:
        away.rename(objects)

    assert answer.status_code == 503
    assert answer.json()["checks"]["blobs"] is not None
    assert answer.json()["checks"]["catalog"] is None
    assert alive.status_code == 200


def test_a_service_that_drains_says_so(installation, client):
    installation.app.state.is_draining = True
    try:
        answer = client.get("/readyz")
    finally:
        installation.app.state.is_draining = False

    assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")


def test_figures_count_requests_by_route_and_pushes_by_outcome(client, model, pushed):
    client.put(f"{model}/upload/model.pt", content=b"no weights")

    figures = client.get("/metrics").text

    assert re.search(
        r'requests_total{method="PUT",route="[^"]*/upload/{filename:path}",status="201"} [1-9]', figures
    ), figures
    assert 'weighbridge_pushes_total{outcome="published"}' in figures
    assert 'weighbridge_pushes_total{outcome="malformed_artifact"}' in figures
    assert re.search(r"weighbridge_received_bytes_total [1-9]", figures)
    assert model.rpartition("/")[2] not in figures


def test_every_request_is_one_json_line_with_its_id(client, monkeypatch):
    written = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("weighbridge").level, logging.getLogger("uvicorn").level
    configure_logging("INFO")
    root.handlers[0].setStream(written)
    try:
        answer = client.get("/api/v1/models?search=x", headers={"Authorization": "Bearer never-log-this"})
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        logging.getLogger("weighbridge").setLevel(before[2])
        logging.getLogger("uvicorn").setLevel(before[3])

    (line,) = [json.loads(each) for each in written.getvalue().splitlines()]
    assert (line["logger"], line["method"], line["path"], line["status"]) == (
        "weighbridge.access", "GET", "/api/v1/models", 200,
    )  # fmt: skip
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert line["sent_bytes"] == len(answer.content)
    assert line["seconds"] > 0
    assert "never-log-this" not in written.getvalue()


def test_the_line_of_a_request_is_what_the_library_makes_of_its_fields():
    written = {"method": "GET", "path": "/a/\u2603", "status": None, "received_bytes": 0, "sent_bytes": 7}
    written |= {"seconds": 0.25, "client": None, "request_id": "0123456789"}
    record = logging.makeLogRecord({"name": access_log.name, "levelname": "INFO", "msg": "%s %s", "args": ("GET", "/")})
    record.__dict__.update(written)
    formatter = make_formatter({"a secret"})

    assert formatter.format(record) == JsonFormatter.format(formatter, record)
    assert "a secret" not in formatter.format(logging.makeLogRecord({**record.__dict__, "path": "/a secret"}))


def test_the_committed_description_of_the_api_is_current():
    committed = (ROOT / "docs" / "api" / "openapi.json").read_text("utf-8")

    assert committed == describe(), "run: python -m api openapi > docs/api/openapi.json"


def test_every_route_names_its_failures_and_has_an_id_of_its_own():
    document = json.loads(describe())
    operations = [each for path in document["paths"].values() for each in path.values()]

    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids)
    for path, methods in document["paths"].items():
        if path.startswith("/api/v1/"):
            for operation in methods.values():
                assert "application/problem+json" in operation["responses"]["401"]["content"]
                assert operation["summary"]


@pytest.mark.parametrize("page", ["/docs"])
def test_the_documentation_needs_nothing_from_the_internet(client, page):
    html = client.get(page).text

    sources = re.findall(r"""(?:src|href)=["']([^"']+)["']""", html)
    assert sources
    for source in sources:
        assert source.startswith("/docs/")
        assert client.get(source).status_code == 200
    assert not re.search(r"https?://", html)
