"""What bad input gets: its code, its status, a sentence, nothing left behind, and the service still up."""

import base64
import io
import json
import pickle
import zipfile

import pytest

FORM = {"Content-Type": "multipart/form-data; boundary=x"}
OTHER_DIGEST = "0" * 64


class Harm:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/weighbridge-was-here",)


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(
        b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (head.encode(), data) for head, data in parts
    )


def file_part(path: str, data: bytes) -> tuple[str, bytes]:
    return f'name="file"; filename="{path}"', data


@pytest.fixture
def refused(installation, model, weights):
    """Push, and check everything that must be true of a refusal."""
    client = installation.client

    def check(status: int, code: str, answer) -> dict:
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), problem
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert problem["status"] == status
        assert problem["request_id"] == answer.headers["X-Request-Id"]
        assert problem["detail"].endswith((".", "?", "`"))
        assert installation.stored() == before
        assert client.get(model).status_code == 404
        assert client.get("/readyz").status_code == 200
        return problem

    before = installation.stored()
    return check


def harmful_archive(weights: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(weights)) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(entry.filename, pickle.dumps(Harm(), 2) if entry.filename.endswith("data.pkl") else data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("model.pt", b"", "empty_artifact"),
        ("model.pt", b"weights, honestly\n", "malformed_artifact"),
        ("notes.txt", b"the only file is taken for weights\n", "malformed_artifact"),
        ("model.pt", b"PK\x03\x04" + bytes(100), "malformed_artifact"),
        ("model.safetensors", (1 << 60).to_bytes(8, "little") + b"{}", "malformed_artifact"),
        ("model.pt", pickle.dumps(Harm(), 2), "unsafe_artifact"),
    ],
    ids=["empty", "text", "only-file", "zip-start", "huge-header", "harmful-pickle"],
)
def test_a_file_that_is_no_good_is_refused(client, model, refused, path, content, code):
    refused(422, code, client.put(f"{model}/upload/{path}", content=content))


def test_a_truncated_archive_is_refused(client, model, refused, weights):
    refused(422, "malformed_artifact", client.put(f"{model}/upload/model.pt", content=weights[: len(weights) // 2]))


@pytest.mark.parametrize("path", ["model.pt", "data.bin", "README.md"])
def test_a_pickle_that_would_run_something_is_refused_under_any_name(client, model, refused, weights, path):
    body = form(file_part("good.pt", weights), file_part(path, harmful_archive(weights)))

    problem = refused(
        422, "unsafe_artifact", client.post(f"{model}/versions", content=body + b"--x--\r\n", headers=FORM)
    )

    assert any("system" in name for name in problem["globals"])


def test_other_bytes_than_announced_are_refused(client, model, refused, weights):
    upload = f"{model}/upload/model.pt"
    header = base64.b64encode(bytes(32)).decode()
    announced = json.dumps({"artifacts": {"model.pt": {"sha256": OTHER_DIGEST}}}).encode()
    late = form(file_part("model.pt", weights), ('name="metadata"', announced)) + b"--x--\r\n"

    refused(422, "digest_mismatch", client.put(upload, content=weights, params={"sha256": OTHER_DIGEST}))
    refused(422, "digest_mismatch", client.put(upload, content=weights, headers={"Repr-Digest": f"sha-256=:{header}:"}))
    refused(422, "digest_mismatch", client.post(f"{model}/versions", content=late, headers=FORM))


def test_another_size_than_announced_is_refused(client, model, refused, weights):
    announced = json.dumps({"artifacts": {"model.pt": {"size_bytes": len(weights) + 1}}}).encode()
    body = form(('name="metadata"', announced), file_part("model.pt", weights)) + b"--x--\r\n"

    refused(422, "size_mismatch", client.post(f"{model}/versions", content=body, headers=FORM))


def test_a_file_that_was_announced_and_did_not_come_is_missed(client, model, refused, weights):
    announced = json.dumps({"artifacts": {"other.pt": {}}}).encode()
    body = form(('name="metadata"', announced), file_part("model.pt", weights)) + b"--x--\r\n"

    refused(400, "incomplete_upload", client.post(f"{model}/versions", content=body, headers=FORM))


def test_a_file_that_is_too_large_is_refused_before_it_comes_and_while_it_comes(client, model, refused):
    announced = {"Content-Length": str(9 << 20)}
    refused(413, "too_large", client.put(f"{model}/upload/model.pt", content=bytes(9 << 20), headers=announced))
    refused(413, "too_large", client.put(f"{model}/upload/model.pt", content=(bytes(1 << 20) for _ in range(9))))


def test_a_form_with_too_many_files_is_refused(client, model, refused, weights):
    files = [("file", (f"{number}.txt", b"text")) for number in range(21)]

    refused(413, "too_large", client.post(f"{model}/versions", files=files))


def test_fields_that_are_too_large_are_refused(client, model, refused, weights):
    body = form(('name="description"', b"x" * (17 << 10)), file_part("model.pt", weights)) + b"--x--\r\n"

    refused(413, "too_large", client.post(f"{model}/versions", content=body, headers=FORM))


@pytest.mark.parametrize("path", ["a%2F..%2Fb.pt", "..%2Fb.pt", "a%5Cb.pt", "a%09b.pt", "a%2F%2Fb.pt", "x" * 1001])
def test_a_path_that_escapes_or_that_nobody_could_write_is_refused(client, model, refused, weights, path):
    refused(422, "invalid_path", client.put(f"{model}/upload/{path}", content=weights))


@pytest.mark.parametrize("header", [{"Content-Range": "bytes 0-9/100"}, {"Content-Encoding": "gzip"}])
def test_a_part_of_a_file_and_packed_bytes_are_refused(client, model, refused, weights, header):
    refused(422, "invalid_request", client.put(f"{model}/upload/model.pt", content=weights, headers=header))


def test_two_files_that_differ_in_case_only_are_refused(client, model, refused, weights):
    body = form(file_part("model.pt", weights), file_part("Model.PT", weights)) + b"--x--\r\n"

    refused(422, "invalid_path", client.post(f"{model}/versions", content=body, headers=FORM))


@pytest.mark.parametrize("name", ["vision/a--b", "vision/-a", "vision/a.git", "vision/a%20b", "api/net", "docs/net"])
def test_a_name_that_some_client_could_not_address_is_refused(client, installation, weights, name):
    before = installation.stored()

    answer = client.put(f"/api/v1/models/{name}/upload/model.pt", content=weights)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_name")
    assert installation.stored() == before


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"metric.top1": "much"}, 422, "invalid_metadata"),
        ({"metric.top1": "nan"}, 422, "invalid_metadata"),
        ({"metrics.top1": "0.5"}, 422, "invalid_request"),
        ({"sha256": "abc"}, 422, "invalid_metadata"),
        ({"alias": "v3"}, 422, "invalid_name"),
        ({"alias": "latest"}, 422, "invalid_name"),
        ({"base": "vision/net:x"}, 422, "invalid_reference"),
        ({"base": "vision/never-was:1"}, 404, "model_not_found"),
        ({"primary": "other.pt"}, 422, "no_weights"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(client, model, refused, weights, query, status, code):
    refused(status, code, client.put(f"{model}/upload/model.pt", content=weights, params=query))


OPEN = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pt"\r\n\r\nab'
END = b"\r\n--x--\r\n"


def field(name: bytes, value: bytes, kind: bytes = b"form-data") -> bytes:
    return b'--x\r\nContent-Disposition: %s; name="%s"\r\n\r\n%s' % (kind, name, value) + END


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 422, "invalid_request"),
        ("multipart/form-data", END, 422, "invalid_request"),
        (FORM["Content-Type"], b"--y\r\n\r\n", 422, "invalid_request"),
        (FORM["Content-Type"], OPEN, 400, "incomplete_upload"),
        (FORM["Content-Type"], b"--x--\r\n", 400, "incomplete_upload"),
        (FORM["Content-Type"], b"", 400, "incomplete_upload"),
        (FORM["Content-Type"], field(b"tag.a", b"b", kind=b"attachment"), 422, "invalid_request"),
        (FORM["Content-Type"], field(b"\xff", b"ab"), 422, "invalid_request"),
        (FORM["Content-Type"], field(b"metadata", b"[1]"), 422, "invalid_metadata"),
        (FORM["Content-Type"], field(b"metadata", b"{"), 422, "invalid_metadata"),
        (FORM["Content-Type"], b"--x\r\nX: " + b"a" * 20_000 + b"\r\n\r\nab" + END, 422, "invalid_request"),
    ],
    ids=[
        "json",
        "no-boundary",
        "other-boundary",
        "cut-off",
        "no-file",
        "empty",
        "attachment",
        "latin-1",
        "list",
        "broken-json",
        "long-header",
    ],
)
def test_a_form_that_is_none_is_refused(client, model, refused, content_type, body, status, code):
    answer = client.post(f"{model}/versions", content=body, headers={"Content-Type": content_type})

    refused(status, code, answer)


def test_an_index_that_its_shards_contradict_is_refused(client, model, refused, weights):
    index = json.dumps({"weight_map": {"conv.weight": "model.pt", "head.weight": "model.pt"}}).encode()
    files = [("file", ("model.pt", weights)), ("file", ("model.bin.index.json", index))]

    refused(422, "malformed_artifact", client.post(f"{model}/versions", files=files))
