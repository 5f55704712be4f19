"""Pushes that go well: by body, by form, repeated."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

from embedded import make_weights

METADATA = {"metrics": {"top1": 0.5}, "tags": {"data": "imagenet"}, "description": "first"}


def artifact(client, model, path, version="latest"):
    return client.get(f"{model}/versions/{version}/artifacts/{path}")


def test_a_body_becomes_the_first_version_and_comes_back_byte_for_byte(client, model, weights):
    answer = client.put(f"{model}/upload/model.pt", content=weights)

    assert answer.status_code == 201
    version = answer.json()
    assert answer.headers["Location"] == f"{model}/versions/1"
    assert (version["number"], version["kind"], version["trust"]) == (1, "state_dict", "tensors")
    assert version["weights"] == ["model.pt"]
    (info,) = version["artifacts"]
    assert info["sha256"] == f"sha256:{hashlib.sha256(weights).hexdigest()}"
    assert (info["tensor_count"], info["parameter_count"]) == (2, 64 * 32 * 9 + 64)
    assert artifact(client, model, "model.pt").content == weights


def test_the_query_of_a_body_push_is_its_metadata(client, model, pushed, weights):
    base = model.removeprefix("/api/v1/models/")
    query = {
        "metric.top1": "0.803", "tag.data": "imagenet", "description": "second", "base": f"{base}:1",
        "alias": ["prod", "best"], "primary": "model.pt", "sha256": hashlib.sha256(weights).hexdigest(),
    }  # fmt: skip

    version = client.put(f"{model}/upload/model.pt", params=query, content=weights).json()

    annotations = version["annotations"]
    assert annotations["metrics"] == {"top1": 0.803}
    assert annotations["tags"] == {"data": "imagenet"}
    assert annotations["description"] == "second"
    assert version["base"] == f"{base}:1"
    assert sorted(version["aliases"]) == ["best", "prod"]


def test_a_repr_digest_that_is_right_is_accepted(client, model, weights):
    digest = base64.b64encode(hashlib.sha256(weights).digest()).decode()

    answer = client.put(f"{model}/upload/model.pt", content=weights, headers={"Repr-Digest": f"sha-256=:{digest}:"})

    assert answer.status_code == 201


def test_a_form_takes_files_and_fields_in_any_order(client, model, weights):
    readme = "Grüße\n".encode()
    boundary = "b0undary"
    parts = [
        ('form-data; name="metric.top1"', b"0.7"),
        ('form-data; name="a"; filename="model.pt"', weights),
        ('form-data; name="metadata"', json.dumps(METADATA).encode()),
        ('form-data; name="b"; filename="docs/Grüße, \\"so\\".md"', readme),
        ('form-data; name="alias"', b"prod"),
        ('form-data; name="sha256.model.pt"', hashlib.sha256(weights).hexdigest().encode()),
    ]
    body = b"".join(
        b"--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n" % (boundary.encode(), head.encode(), data)
        for head, data in parts
    )

    answer = client.post(
        f"{model}/versions",
        content=body + b"--" + boundary.encode() + b"--\r\n",
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )

    assert answer.status_code == 201, answer.text
    version = answer.json()
    assert [each["path"] for each in version["artifacts"]] == ["model.pt", 'docs/Grüße, "so".md']
    assert [each["kind"] for each in version["artifacts"]] == ["state_dict", "opaque"]
    assert version["annotations"]["metrics"] == {"top1": 0.7}
    assert version["annotations"]["tags"] == {"data": "imagenet"}
    assert version["aliases"] == ["prod"]
    assert artifact(client, model, 'docs/Grüße, "so".md').content == readme
    assert artifact(client, model, "model.pt").content == weights


def test_the_extended_file_names_of_older_clients_are_understood(client, model, weights):
    head = b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename*=utf-8''m%C3%B6del.pt\r\n\r\n"

    answer = client.post(
        f"{model}/versions",
        content=head + weights + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )

    assert answer.json()["artifacts"][0]["path"] == "mödel.pt"


def test_a_form_is_the_same_however_its_bytes_are_cut(client, model, weights):
    whole = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="model.pt"\r\n\r\n' + weights + b"\r\n--x--\r\n"
    )

    answer = client.post(
        f"{model}/versions",
        content=(whole[at : at + 997] for at in range(0, len(whole), 997)),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )

    assert answer.json()["artifacts"][0]["sha256"] == f"sha256:{hashlib.sha256(weights).hexdigest()}"


def test_the_same_content_again_is_a_new_version_of_one_object(installation, client, model, pushed, weights):
    before = installation.stored()

    again = client.put(f"{model}/upload/model.pt", content=weights).json()

    after = installation.stored()
    assert again["number"] == 2
    assert len(again["notices"]) == 1
    assert ":1 has the same content" in again["notices"][0]
    assert after == {**before, "versions": before["versions"] + 1}


def test_a_repeated_idempotency_key_gives_the_first_version_and_stores_nothing(installation, client, model, weights):
    push = {"content": weights, "headers": {"Idempotency-Key": "once"}, "params": {"metric.top1": "0.5"}}
    first = client.put(f"{model}/upload/model.pt", **push)
    before = installation.stored()

    second = client.put(f"{model}/upload/model.pt", **push)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert installation.stored() == before


def test_an_idempotency_key_with_other_content_is_refused(installation, client, model, weights):
    headers = {"Idempotency-Key": "once"}
    client.put(f"{model}/upload/model.pt", content=weights, headers=headers)
    before = installation.stored()

    for content, params in ((make_weights(1), {}), (weights, {"tag.a": "b"})):
        answer = client.put(f"{model}/upload/model.pt", content=content, headers=headers, params=params)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert installation.stored() == before


def test_the_key_of_a_failed_push_is_free_again(client, model, weights):
    headers = {"Idempotency-Key": "once"}
    assert client.put(f"{model}/upload/model.pt", content=weights[:-99], headers=headers).status_code == 422

    assert client.put(f"{model}/upload/model.pt", content=weights, headers=headers).status_code == 201


def test_a_push_that_is_still_running_makes_its_repetition_wait(installation, client, model, weights):
    team, name = model.split("/")[-2:]
    lease = datetime.now(UTC) + timedelta(minutes=10)
    installation.stores.catalog.begin_push("local", team, name, "once", lease)

    answer = client.put(f"{model}/upload/model.pt", content=weights, headers={"Idempotency-Key": "once"})

    assert (answer.status_code, answer.json()["code"]) == (409, "publish_in_progress")
    assert 1 <= int(answer.headers["Retry-After"]) <= 10


def test_other_files_than_weights_are_kept_beside_them_and_never_opened(client, model, weights):
    files = [
        ("file", ("model.safetensors", _safetensors())),
        ("file", ("README.md", b"(c) nobody; cos\nsystem is no pickle here")),
        ("file", ("model.onnx", b"\x08\x07\x12\x07pytorch")),
        ("file", ("vocab.txt", b"cat\ndog\nbird\n")),
    ]

    version = client.post(f"{model}/versions", files=files).json()

    assert [each["kind"] for each in version["artifacts"]] == ["state_dict", "opaque", "opaque", "opaque"]
    assert version["weights"] == ["model.safetensors"]


def test_a_sharded_state_dict_is_one(client, model):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    files = [
        ("file", ("model-1.safetensors", _safetensors("a"))),
        ("file", ("model-2.safetensors", _safetensors("b"))),
        ("file", ("model.safetensors.index.json", json.dumps(index).encode())),
    ]

    version = client.post(f"{model}/versions", files=files).json()

    assert version["weights"] == ["model-1.safetensors", "model-2.safetensors"]
    manifests = client.get(f"{model}/versions/1/manifest").json()["artifacts"]
    assert [each["manifest"]["tensors"][0]["name"] for each in manifests] == ["a", "b"]


def test_several_weights_make_a_version_without_one_state_dict_until_one_is_primary(client, model, weights):
    files = [("file", ("a.pt", weights)), ("file", ("b.pt", make_weights(1)))]

    ambiguous = client.post(f"{model}/versions", files=files).json()
    chosen = client.post(f"{model}/versions", files=files, data={"primary": "b.pt"}).json()

    assert (ambiguous["weights"], ambiguous["weights_problem"]) == ([], "ambiguous_weights")
    assert (chosen["weights"], chosen["weights_problem"]) == (["b.pt"], None)
    refused = client.get(f"{model}/versions/1/manifest")
    assert (refused.status_code, refused.json()["code"]) == (422, "ambiguous_weights")
    assert client.get(f"{model}/versions/1/manifest?path=a.pt").status_code == 200


def _safetensors(name: str = "weight") -> bytes:
    header = json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)
