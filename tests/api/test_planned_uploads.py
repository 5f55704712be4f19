"""Planned uploads: parts in any order become a version, resumable, and nothing is left of what does not."""

import hashlib
import io
from datetime import UTC, datetime, timedelta

import pytest
import torch
from blake3 import blake3

from storage.access import Caller
from storage.garbage import collect
from storage.uploads import planning

OPERATOR = Caller("operator", is_administrator=True)
PART = 1 << 20


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(planning, "LOCAL_PART_BYTES", PART)


@pytest.fixture(scope="module")
def large():
    """A state_dict of three parts and a bit."""
    file = io.BytesIO()
    torch.save({"fc.weight": torch.arange(800_000, dtype=torch.float32), "fc.bias": torch.ones(10)}, file)
    return file.getvalue()


def plan(client, model, key=None, **files):
    artifacts = {path.replace("_", "."): announced for path, announced in files.items()}
    headers = {"Idempotency-Key": key} if key else {}
    return client.post(f"{model}/uploads", json={"metadata": {"artifacts": artifacts}}, headers=headers)


def begin(client, model, data, **announced):
    answer = plan(client, model, model_pt={"size_bytes": len(data), **announced})
    assert answer.status_code == 201, answer.text
    return f"{model}/uploads/{answer.json()['id']}"


def send(client, upload, data, numbers, path="model.pt"):
    asked = client.post(f"{upload}/parts", json={"path": path, "numbers": list(numbers)})
    assert asked.status_code == 200, asked.text
    for part in asked.json()["parts"]:
        body = data[part["offset"] : part["offset"] + part["length"]]
        answer = client.put(part["url"], content=body, headers=part["headers"])
        assert answer.status_code == 204, answer.text


def test_parts_in_any_order_become_a_version_with_the_digests_of_its_bytes(client, model, large):
    upload = begin(client, model, large)
    send(client, upload, large, [4, 2])
    send(client, upload, large, [1, 3])

    answer = client.post(f"{upload}/complete")

    assert answer.status_code == 201, answer.text
    artifact = answer.json()["artifacts"][0]
    assert artifact["sha256"] == f"sha256:{hashlib.sha256(large).hexdigest()}"
    assert artifact["blake3"] == f"blake3:{blake3(large).hexdigest()}"
    assert artifact["tensor_count"] == 2
    assert client.get(answer.headers["location"] + "/artifacts/model.pt").content == large


def test_completing_twice_gives_the_same_version_and_the_upload_tells_it(client, model, large):
    upload = begin(client, model, large)
    send(client, upload, large, range(1, 5))
    first, second = client.post(f"{upload}/complete"), client.post(f"{upload}/complete")

    assert first.json() == second.json()
    told = client.get(upload).json()
    assert (told["state"], told["version"]["number"]) == ("published", 1)


def test_an_upload_tells_which_parts_are_missing_and_goes_on_from_there(client, model, large):
    upload = begin(client, model, large)
    send(client, upload, large, [2])
    assert client.get(upload).json()["files"][0]["missing"] == [[1, 1], [3, 4]]

    refused = client.post(f"{upload}/complete")
    assert refused.status_code == 400
    assert refused.json()["code"] == "incomplete_upload"
    assert refused.json()["missing"] == [[1, 1], [3, 4]]

    send(client, upload, large, [1, 3, 4])
    assert client.post(f"{upload}/complete").status_code == 201


def test_a_plan_tells_how_to_send_the_first_missing_parts(client, model, large):
    planned = plan(client, model, "a key", model_pt={"size_bytes": len(large)}).json()
    upload, [file] = f"{model}/uploads/{planned['id']}", planned["files"]
    asked = client.post(f"{upload}/parts", json={"path": "model.pt", "numbers": [1, 2, 3, 4]})
    assert file["parts"] == asked.json()["parts"]
    send(client, upload, large, [2])
    again = plan(client, model, "a key", model_pt={"size_bytes": len(large)}).json()["files"][0]
    assert [part["number"] for part in again["parts"]] == [1, 3, 4]
    for part in again["parts"]:
        body = large[part["offset"] : part["offset"] + part["length"]]
        assert client.put(part["url"], content=body, headers=part["headers"]).status_code == 204
    assert client.post(f"{upload}/complete").status_code == 201
    assert plan(client, model, "a key", model_pt={"size_bytes": len(large)}).json()["files"][0]["parts"] == []


def test_a_plan_tells_of_some_parts_whatever_the_files(client, model):
    sizes = {name: {"size_bytes": 7 * PART} for name in ("a_pt", "b_pt", "c_pt")}
    files = plan(client, model, **sizes).json()["files"]
    assert [[part["number"] for part in file["parts"]] for file in files] == [[*range(1, 8)], [*range(1, 8)], [1, 2]]


def test_a_part_that_was_sent_again_with_other_bytes_counts_with_those_it_has_in_the_end(client, model, large):
    upload = begin(client, model, large)
    send(client, upload, bytes(len(large)), [1])
    send(client, upload, large, [2, 3, 4, 1])
    artifact = client.post(f"{upload}/complete").json()["artifacts"][0]
    assert artifact["sha256"] == f"sha256:{hashlib.sha256(large).hexdigest()}"


def test_a_part_after_completion_is_refused_and_changes_nothing(client, model, large):
    upload = begin(client, model, large)
    send(client, upload, large, range(1, 5))
    client.post(f"{upload}/complete")

    late = client.put(f"{upload}/files/0/parts/1", content=bytes(PART))

    assert (late.status_code, late.json()["code"]) == (409, "upload_ended")
    assert client.get(f"{model}/versions/1/artifacts/model.pt").content == large


@pytest.mark.parametrize("size", [0, PART - 1, PART + 1])
def test_a_part_of_another_length_than_planned_is_refused(client, model, large, size):
    upload = begin(client, model, large)
    answer = client.put(f"{upload}/files/0/parts/1", content=bytes(size))
    assert (answer.status_code, answer.json()["code"]) == (422, "size_mismatch")
    streamed = client.put(f"{upload}/files/0/parts/1", content=iter([bytes(size)]))
    assert (streamed.status_code, streamed.json()["code"]) == (422, "size_mismatch")
    assert client.get(upload).json()["files"][0]["missing"] == [[1, 4]]


def test_a_file_or_part_that_the_plan_does_not_have_is_no_place_for_bytes(client, model, large):
    upload = begin(client, model, large)
    assert client.put(f"{upload}/files/1/parts/1", content=b"x").status_code == 404
    assert client.put(f"{upload}/files/0/parts/5", content=b"x").status_code == 422
    assert client.post(f"{upload}/parts", json={"path": "other.pt", "numbers": [1]}).status_code == 404
    assert client.put(f"{model}/uploads/{'0' * 32}/files/0/parts/1", content=b"x").status_code == 404


def test_an_upload_is_found_only_under_its_own_model(client, model, large):
    upload = begin(client, model, large)
    elsewhere = upload.replace("/uploads/", "-other/uploads/")
    assert client.get(elsewhere).json()["code"] == "upload_not_found"


def test_the_same_request_with_the_same_key_is_the_same_upload(client, model, large):
    sizes = {"size_bytes": len(large)}
    first, again = (plan(client, model, "a key", model_pt=sizes).json() for _ in range(2))
    assert first == again
    other = plan(client, model, "a key", model_pt={"size_bytes": len(large) + 1})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("announced", "code"),
    [
        ({}, "invalid_request"),
        ({"size_bytes": 0}, "empty_artifact"),
        ({"size_bytes": 9 << 20}, "too_large"),
        ({"size_bytes": 1 << 62}, "too_large"),
    ],
)
def test_what_cannot_become_an_artifact_is_refused_before_a_byte_comes(client, model, announced, code):
    answer = plan(client, model, model_pt=announced)
    assert answer.json()["code"] == code


def test_bytes_that_are_no_weights_fail_the_upload_for_good_and_nothing_is_left(installation, model):
    client, before = installation.client, installation.stored()
    data = b"PK\x03\x04" + bytes(3 * PART)
    upload = begin(client, model, data)
    send(client, upload, data, range(1, 5))

    first, second = client.post(f"{upload}/complete"), client.post(f"{upload}/complete")

    assert first.status_code == second.status_code == 422
    assert first.json()["code"] == second.json()["code"] == "malformed_artifact"
    assert client.get(upload).json()["state"] == "failed"
    assert installation.stored() == before


def test_other_bytes_than_were_announced_are_refused(installation, model, large):
    client, before = installation.client, installation.stored()
    upload = begin(client, model, large, blake3=blake3(b"other").hexdigest())
    send(client, upload, large, range(1, 5))
    assert client.post(f"{upload}/complete").json()["code"] == "digest_mismatch"
    assert installation.stored() == before


def test_an_aborted_upload_leaves_nothing_and_takes_nothing(installation, model, large):
    client, before = installation.client, installation.stored()
    upload = begin(client, model, large)
    send(client, upload, large, [1])

    assert client.delete(upload).status_code == 204
    assert client.delete(upload).status_code == 204
    assert installation.stored() == before
    assert client.put(f"{upload}/files/0/parts/2", content=bytes(PART)).status_code == 409
    assert client.post(f"{upload}/complete").json()["code"] == "upload_ended"


def test_an_upload_that_waits_too_long_expires_with_its_bytes(installation, model, large):
    later = datetime.now(UTC) + timedelta(hours=25)
    collect(installation.stores, OPERATOR, now=later)  # what other tests began
    client, before = installation.client, installation.stored()
    upload = begin(client, model, large)
    send(client, upload, large, [1, 2, 3, 4])

    assert collect(installation.stores, OPERATOR, now=later).expired_uploads == 1

    assert client.get(upload).json()["state"] == "expired"
    assert client.post(f"{upload}/complete").json()["code"] == "upload_ended"
    assert installation.stored() == before


def test_whoever_died_while_verifying_is_taken_over_from(installation, model, large):
    client, catalog = installation.client, installation.stores.catalog
    upload = begin(client, model, large)
    send(client, upload, large, range(1, 5))
    upload_id = upload.rpartition("/")[2]
    now = datetime.now(UTC)

    assert catalog.begin_verifying(upload_id, "another process", now + timedelta(minutes=1))
    waiting = client.post(f"{upload}/complete")
    assert (waiting.status_code, waiting.json()["state"]) == (202, "verifying")
    assert waiting.headers["retry-after"]

    catalog.release_verifying(upload_id, "another process")
    assert client.post(f"{upload}/complete").status_code == 201


def test_several_files_become_one_version(client, model, large):
    config = b'{"a": 1}'
    answer = plan(client, model, model_pt={"size_bytes": len(large)}, config_json={"size_bytes": len(config)})
    upload = f"{model}/uploads/{answer.json()['id']}"
    send(client, upload, large, range(1, 5))
    send(client, upload, config, [1], "config.json")
    version = client.post(f"{upload}/complete").json()
    assert [each["path"] for each in version["artifacts"]] == ["model.pt", "config.json"]
    assert client.get(f"{model}/versions/1/artifacts/config.json").content == config
