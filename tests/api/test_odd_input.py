"""Whatever stands in a path, query, header or body: an answer below 500, on both databases."""

import pytest
from embedded import make_weights
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from storage.metadata.migrate import upgrade

MODEL = "/api/v1/models/vision/net"
ODD = ["%00", "%ED%A0%80", "a%00b", "%F0%9F%98%80", "x" * 300, "%25", "9" * 30, "v" + "9" * 30, "sha256:zz", "-1", "v0"]
TEXTS = ["\\u0000", "\\ud800", "\\udc00a"]


@pytest.fixture(params=["sqlite", "postgresql"])
def call(request, tmp_path):
    """Send a request and return its status."""
    settings = Settings(data=tmp_path)
    if request.param == "postgresql":
        settings = settings.model_copy(update={"database_url": request.getfixturevalue("postgres_database")})
        upgrade(settings.catalog_url)
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        assert client.put(f"{MODEL}/upload/model.pt", content=make_weights()).status_code == 201

        def send(method: str, path: str, **more: object) -> int:
            return client.request(method, path, **more).status_code

        yield send


def test_odd_paths_and_queries_are_answered(call):
    paths = [
        "/api/v1/models/vision/{}",
        "/api/v1/models/{}/net",
        MODEL + "/versions/{}",
        MODEL + "/versions/{}/manifest",
    ]
    paths += [
        MODEL + "/versions/1/artifacts/{}",
        MODEL + "/versions/1/manifests/{}",
        MODEL + "/aliases/{}",
        MODEL + "/aliases/{}/history",
    ]
    paths += [
        "/api/v1/models?search={}",
        "/api/v1/models?kind={}",
        "/api/v1/models?tag={0}={0}",
        "/api/v1/models?sort={}",
    ]
    paths += ["/api/v1/models?cursor={}", MODEL + "/versions?sort=metrics.{}", MODEL + "/versions?cursor={}"]
    paths += [MODEL + "/versions?limit={}", MODEL + "/versions?tag={0}={0}"]

    for odd in ODD:
        for path in paths:
            assert call("GET", path.format(odd)) < 500, (path, odd)


def test_odd_changes_are_answered(call):
    for odd in ODD:
        assert call("POST", f"{MODEL}/versions/{odd}/restore") < 500
        assert call("PUT", f"{MODEL}/aliases/{odd}", json={"version": 1}, headers={"If-None-Match": "*"}) < 500
        assert call("PUT", f"{MODEL}/upload/{odd}.pt", content=b"no weights") < 500
        for name in ("description", "base", "alias", "primary", "tag.a", f"tag.{odd}", "metric.a", f"metric.{odd}"):
            assert call("PUT", f"{MODEL}/upload/model.pt?{name}={odd}", content=b"no weights") < 500, (name, odd)


def test_odd_bodies_are_answered(call):
    headers = {"Content-Type": "application/json", "If-Match": "*"}
    bodies = ['{"metrics":{"a":1e999}}', '{"metrics":{"a":NaN}}', "[" * 10_000, '{"version":' + "9" * 30 + "}"]
    for text in TEXTS:
        bodies += [f'{{"description":"{text}"}}', f'{{"tags":{{"a":"{text}"}}}}', f'{{"tags":{{"{text}":"a"}}}}']
        bodies += [f'{{"version":1,"reason":"{text}"}}']

    for body in bodies:
        for method, path in (("PATCH", MODEL), ("PATCH", f"{MODEL}/versions/1"), ("PUT", f"{MODEL}/aliases/prod")):
            assert call(method, path, content=body, headers=headers) < 500, (path, body[:100])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-Match", '"99999999999999999999"'),
        ("If-Match", '"999999999999999999"'),
        ("Range", "bytes=-99999999999999999999"),
        ("Range", "bytes=0-99999999999999999999"),
        ("If-None-Match", '"' * 1000),
        ("Idempotency-Key", "x" * 300),
        ("Repr-Digest", "sha-256=:AAAA:"),
    ],
)
def test_odd_headers_are_answered(client, model, pushed, name, value):
    answers = [
        client.get(f"{model}/versions/1/artifacts/model.pt", headers={name: value}),
        client.patch(f"{model}/versions/1", json={"tags": {"a": "b"}}, headers={name: value}),
        client.put(f"{model}/upload/model.pt", content=b"no weights", headers={name: value}),
    ]

    assert all(answer.status_code < 500 for answer in answers)
