"""Failures leave the service in one shape."""

import json
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.errors import STATUSES, problem, status_of
from api.settings import Settings
from registry.errors import WeighbridgeError, error_from_problem, iter_error_classes

if TYPE_CHECKING:
    from fastapi import FastAPI


@pytest.mark.parametrize("kind", list(iter_error_classes()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_comes_back_as_its_class(kind):
    assert 400 <= status_of(kind) < 600

    document = json.loads(bytes(problem(kind("It failed.", path="model.pt"), "an-id").body))

    again = error_from_problem(document)
    assert type(again) is kind
    assert (again.detail, again.extra, again.request_id) == ("It failed.", {"path": "model.pt"}, "an-id")


def test_every_error_has_its_own_code():
    kinds = list(iter_error_classes())

    assert len({kind.code for kind in kinds}) == len(kinds)


def test_every_status_is_of_a_class_that_exists():
    assert set(STATUSES) <= set(iter_error_classes())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/api/v1/models", 405, "invalid_request"),
    ],
)
def test_routes_that_are_not_there_are_problems_too(client, method, path, status, code):
    answer = client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "/docs" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        (b'{"version": "one"}', 422, "invalid_metadata", "version"),
        (b'{"version": 1, "vresion": 1}', 422, "invalid_metadata", "vresion"),
        (b"{", 400, "invalid_request", "JSON"),
        (b"", 422, "invalid_metadata", "body"),
        (b'{"version": 1, "reason": "' + b"x" * (17 << 10) + b'"}', 413, "too_large", "bytes"),
    ],
    ids=["type", "unknown", "broken", "none", "large"],
)
def test_a_body_that_does_not_fit_says_where(client, model, pushed, body, status, code, said):
    headers = {"If-None-Match": "*", "Content-Type": "application/json"}

    answer = client.put(f"{model}/aliases/prod", content=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert said in answer.json()["detail"]


def test_a_bug_is_an_answer_with_a_request_id_and_a_traceback_in_the_log_only(tmp_path, caplog):
    app: FastAPI = create_app(Settings(data=tmp_path))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret detail of the inside")

    with TestClient(app, base_url="http://localhost") as client:
        answer = client.get("/broken", headers={"X-Request-Id": "given-by-a-proxy"})

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "given-by-a-proxy"
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text


def test_a_request_id_that_could_break_a_log_is_not_taken_over(client):
    answer = client.get("/healthz", headers={"X-Request-Id": 'evil"\tid'})

    assert answer.headers["X-Request-Id"] != 'evil"\tid'


def test_the_root_of_all_errors_is_a_failure_of_the_service():
    assert status_of(WeighbridgeError) == 500
