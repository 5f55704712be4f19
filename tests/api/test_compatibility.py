"""Compatibility over HTTP: one version against an architecture, and what would load into one."""

import json

import pytest
from embedded import API

ARCHITECTURE = {
    "tensors": [
        {"name": "conv.weight", "shape": [64, 32, 3, 3], "dtype": "float32"},
        {"name": "conv.bias", "shape": [64], "dtype": "float32"},
    ]
}


def wrapped(prefix):
    return {"tensors": [{**each, "name": prefix + each["name"]} for each in ARCHITECTURE["tensors"]]}


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_a_version_is_checked_against_an_architecture(client, model, pushed):
    report = client.post(f"{model}/versions/latest/check", json={"architecture": wrapped("backbone.")}).json()
    assert (report["verdict"], report["loads"], report["needs"]) == ("exact", True, ["rename"])
    assert report["renames"] == [{"strip": "", "add": "backbone.", "tensors": 2}]
    assert report["text"].startswith("EXACT: all of vision/")


def test_options_of_the_check_are_those_of_the_client(client, model, pushed):
    def check(**options):
        query = {"architecture": wrapped("backbone."), **options}
        return client.post(f"{model}/versions/1/check", json=query)

    assert check(prefix="").json()["verdict"] == "incompatible"
    assert check(prefix=["", "backbone."]).json()["verdict"] == "exact"
    assert check(rename={"conv.": "backbone.conv."}).json()["verdict"] == "exact"
    assert check(rename="by-order").json()["verdict"] == "exact"
    assert check(path="model.pt").json()["text"].startswith("EXACT")
    assert problem(check(prefix=["nothing.", ""])) == (422, "invalid_request")
    assert problem(check(part="ema")) == (422, "no_weights")
    assert problem(check(path="other.pt")) == (404, "artifact_not_found")


def test_the_recorded_head_is_the_default_of_the_check(client, model, weights):
    metadata = {"pretrained_cfg": {"classifier": ["conv"]}}
    files = {"file": ("model.pt", weights), "metadata": (None, json.dumps(metadata))}
    assert client.post(f"{model}/versions", files=files).status_code == 201
    check = f"{model}/versions/1/check"
    report = client.post(check, json={"architecture": ARCHITECTURE}).json()
    assert (report["head"], report["head_guessed"]) == (["conv"], False)
    assert client.post(check, json={"architecture": ARCHITECTURE, "classifier": []}).json()["head_guessed"]


def test_versions_that_would_load_are_found_with_how_much(client, model, pushed):
    name = model.rpartition("/")[2]
    found = client.post(f"{API}/compatible", json={"architecture": wrapped("backbone."), "limit": 100}).json()["items"]
    assert found[0]["verdict"] == "exact"
    listed = [version for match in found for version in match["versions"]]
    client.delete(f"{model}/versions/1")
    again = client.post(f"{API}/compatible", json={"architecture": wrapped("backbone."), "limit": 100}).json()["items"]
    assert name in {version["model"] for version in listed} or found[0]["model_count"] > 5
    assert name not in {version["model"] for match in again for version in match["versions"]}


@pytest.mark.parametrize("route", ["compatible", "models/vision/none/versions/1/check"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, (422, "invalid_metadata")),
        ({"architecture": 3}, (422, "invalid_metadata")),
        ({"architecture": {"tensors": [{"name": "\ud800", "shape": [1], "dtype": "x"}]}}, (400, "invalid_request")),
        ({"architecture": {"tensors": [{"name": "a." * 5000, "shape": [], "dtype": "x"}]}}, (422, "invalid_metadata")),
        ({"architecture": ARCHITECTURE, "surprise": 1}, (422, "invalid_metadata")),
        ({"architecture": {"tensors": [0] * 20_001}}, (413, "too_large")),
        ({"architecture": {"tensors": ["x" * 5_000_000]}}, (413, "too_large")),
    ],
)
def test_what_is_no_architecture_or_too_large_is_a_problem(client, route, query, expected):
    body = json.dumps(query)
    answer = client.post(f"{API}/{route}", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer) == expected


def test_brackets_without_end_are_a_problem(client):
    body = '{"architecture": ' + "[" * 200_000
    answer = client.post(f"{API}/compatible", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer) == (400, "invalid_request")


def test_a_version_that_is_not_there_is_not_found(client):
    answer = client.post(f"{API}/models/vision/none/versions/1/check", json={"architecture": ARCHITECTURE})
    assert problem(answer) == (404, "model_not_found")
