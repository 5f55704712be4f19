"""Bytes back: conditions and ranges of RFC 9110."""

import hashlib
import zlib
from email import policy
from email.parser import BytesParser

import pytest

from api.byteranges import find_ranges
from registry.client.several import Batch, split
from registry.errors import ServerUnreachableError


@pytest.fixture
def url(model, pushed):
    return f"{model}/versions/1/artifacts/model.pt"


def test_the_head_of_an_artifact_says_everything_and_sends_nothing(client, url, model, weights):
    got, head = client.get(url), client.head(url)

    assert head.status_code == 200
    assert head.content == b""
    names = {"x-request-id", "date"}
    assert {name: value for name, value in head.headers.items() if name not in names} == {
        name: value for name, value in got.headers.items() if name not in names
    }
    assert head.headers["Content-Length"] == str(len(weights))
    assert head.headers["ETag"] == f'"{hashlib.sha256(weights).hexdigest()}"'
    assert head.headers["Accept-Ranges"] == "bytes"
    assert head.headers["X-Weighbridge-Version"] == f"{model.removeprefix('/api/v1/models/')}:1"
    assert head.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("selector", ["1", "v1", "latest", "prod", "sha256"])
def test_a_version_is_found_by_number_alias_and_digest(client, model, pushed, weights, selector):
    client.put(f"{model}/aliases/prod", json={"version": 1}, headers={"If-None-Match": "*"})
    digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"

    got = client.get(f"{model}/versions/{digest if selector == 'sha256' else selector}/artifacts/model.pt")

    assert got.content == weights


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-99", 5, 100),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("BYTES=1-2", 1, 3),
        ("bytes=70000-999999999", 70000, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_a_range_is_exactly_its_bytes(client, url, weights, asked, start, end):
    got = client.get(url, headers={"Range": asked})

    expected = weights[start:end]
    first = len(weights) + start if start < 0 else start
    assert got.status_code == 206
    assert got.content == expected
    assert got.headers["Content-Length"] == str(len(expected))
    assert got.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(weights)}"
    assert client.head(url, headers={"Range": asked}).status_code == 200  # ranges are defined for GET only


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=-", "bytes=a-b", "lines=1-2", "bytes", ""])
def test_what_is_no_range_gets_the_whole(client, url, weights, asked):
    got = client.get(url, headers={"Range": asked})

    assert (got.status_code, got.content) == (200, weights)


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "Bytes = 0-0 , 1-1,2-100", "bytes=7-70000,70001-70001"])
def test_several_ranges_come_as_parts_that_a_mail_reader_understands(client, url, weights, asked):
    got = client.get(url, headers={"Range": asked})

    assert got.status_code == 206
    assert int(got.headers["Content-Length"]) == len(got.content)
    told = f"Content-Type: {got.headers['Content-Type']}\r\n\r\n".encode()
    parts = BytesParser(policy=policy.HTTP).parsebytes(told + got.content).get_payload()
    bounds = [tuple(map(int, each.split("-"))) for each in asked.partition("=")[2].split(",")]
    assert [each["Content-Range"] for each in parts] == [f"bytes {a}-{b}/{len(weights)}" for a, b in bounds]
    assert [each.get_payload(decode=True) for each in parts] == [weights[a : b + 1] for a, b in bounds]
    found = dict(split(got.content, Batch(tuple((a, b + 1 - a) for a, b in bounds))))
    assert {offset: bytes(data) for offset, data in found.items()} == {a: weights[a : b + 1] for a, b in bounds}


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=4-5,0-1",  # not in order
        "bytes=0-5,3-9",  # not apart
        "bytes=0-1,99999999-999999999",  # beyond the end
        "bytes=0-1,-5",
        "bytes=0-1,5-",
        "bytes=" + ",".join(f"{each}-{each}" for each in range(0, 2 * 257, 2)),
    ],
)
def test_ranges_that_cost_more_than_they_are_worth_get_the_whole(client, url, weights, asked):
    got = client.get(url, headers={"Range": asked})

    assert (got.status_code, got.content) == (200, weights)


def test_several_ranges_are_in_memory_at_once_and_so_have_at_most_2_mib():
    most = {"range": "bytes=0-1048575,1048576-2097151"}
    more = {"range": "bytes=0-1048575,1048576-2097152"}

    assert find_ranges(most, '"etag"', 9 << 20) == [(0, 1 << 20), (1 << 20, 1 << 20)]
    assert find_ranges(more, '"etag"', 9 << 20) == []


def test_several_ranges_of_what_is_not_asked_for_any_more_get_the_whole(client, url, weights):
    several = {"Range": "bytes=0-1,4-5"}

    assert client.get(url, headers={**several, "If-Range": '"other"'}).content == weights
    assert client.get(url, headers={**several, "If-None-Match": "*"}).status_code == 304
    assert client.head(url, headers=several).headers["Content-Length"] == str(len(weights))


@pytest.mark.parametrize("cut", [1, 41, 200])
def test_an_answer_of_parts_that_is_cut_or_another_is_refused(client, url, cut):
    body = client.get(url, headers={"Range": "bytes=0-99,400-499"}).content

    with pytest.raises(ServerUnreachableError, match="several ranges"):
        dict(split(body[:-cut] if cut > 1 else body, Batch(((0, 100), (400, 100) if cut > 1 else (401, 99)))))


@pytest.mark.parametrize("beyond", ["bytes={size}-", "bytes=99999999-", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(client, url, weights, beyond):
    got = client.get(url, headers={"Range": beyond.format(size=len(weights))})

    assert (got.status_code, got.json()["code"]) == (416, "range_not_satisfiable")
    assert got.headers["Content-Range"] == f"bytes */{len(weights)}"


@pytest.mark.parametrize("form", ['"{0}"', 'W/"{0}"', '"other", "{0}"', "*"])
def test_what_the_client_has_already_is_not_sent_again(client, url, weights, form):
    got = client.get(url, headers={"If-None-Match": form.format(hashlib.sha256(weights).hexdigest())})

    assert (got.status_code, got.content) == (304, b"")
    assert got.headers["ETag"] == f'"{hashlib.sha256(weights).hexdigest()}"'


def test_other_bytes_than_the_client_has_are_sent(client, url, weights):
    assert client.get(url, headers={"If-None-Match": '"other"'}).content == weights


def test_a_resumed_download_goes_on_only_in_the_same_bytes(client, url, weights):
    etag = client.head(url).headers["ETag"]
    half = {"Range": "bytes=100-"}

    same = client.get(url, headers={**half, "If-Range": etag})
    assert (same.status_code, same.content) == (206, weights[100:])
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        changed = client.get(url, headers={**half, "If-Range": other})
        assert (changed.status_code, changed.content) == (200, weights)


def test_an_artifact_that_is_not_there_names_those_that_are(client, model, pushed):
    missing = client.get(f"{model}/versions/1/artifacts/other.pt")

    assert (missing.status_code, missing.json()["code"]) == (404, "artifact_not_found")
    assert "model.pt" in missing.json()["detail"]


def test_bytes_that_are_gone_are_an_error_and_no_broken_answer(installation, client, model, weights):
    client.put(f"{model}/upload/other.pt", content=weights + b"")
    with installation.away(model, "other.pt"):
        got = client.get(f"{model}/versions/1/artifacts/other.pt")

    assert (got.status_code, got.json()["code"]) == (500, "blob_missing")


def test_the_manifest_lists_every_tensor_with_its_digest(client, model, pushed):
    (artifact,) = client.get(f"{model}/versions/1/manifest").json()["artifacts"]

    assert artifact["path"] == "model.pt"
    tensors = artifact["manifest"]["tensors"]
    assert [(each["name"], each["shape"], each["dtype"]) for each in tensors] == [
        ("conv.weight", [64, 32, 3, 3], "float32"),
        ("conv.bias", [64], "float32"),
    ]
    assert all(each["digest"].startswith("blake3:") for each in tensors)


def test_a_stored_manifest_travels_compressed_and_byte_for_byte_what_its_digest_says(client, model, pushed):
    place, digest = f"{model}/versions/1/manifests/model.pt", pushed["artifacts"][0]["manifest"]
    with client.stream("GET", place, headers={"Accept-Encoding": "gzip, deflate"}) as answer:
        packed = b"".join(answer.iter_raw())
    plain = client.get(place, headers={"Accept-Encoding": "identity"})

    assert (answer.headers["Content-Encoding"], zlib.decompress(packed)) == ("deflate", plain.content)
    assert "Content-Encoding" not in plain.headers
    assert f"sha256:{hashlib.sha256(plain.content).hexdigest()}" == digest
    assert plain.headers["ETag"] == f'"{digest.removeprefix("sha256:")}"'
    assert client.get(f"{model}/versions/1/manifests/nothing.pt").json()["code"] == "artifact_not_found"
