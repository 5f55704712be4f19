"""JSON that is too large, too deep, or means two things, and bodies of other kinds: 4xx by name, in bounded memory."""

import gzip
import json
import socket
import threading
import time
import zlib

import pytest
from attacks import BODIES, OPERATIONS, ROOT, fill, form, parameters_of
from embedded import API
from processes import anonymous_bytes

TEAM = f"{API}/teams/vision"
JSON = {"Content_Type": "application/json"}
WITH_JSON = [
    name
    for name, (_, _, operation) in OPERATIONS.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
]
NAMES = {
    "team": "vision",
    "model": "vision-net",
    "version": "1",
    "number": "1",
    "alias": "gold",
    "user": "vision-reader",
}
NAMES |= {"sha256": "sha256:" + "0" * 64, "upload_id": "0" * 32}
MOST_GROWTH_BYTES = 64 << 20
HOSTILE = {
    "a key twice": b'{"description": "a", "description": "b"}',
    "a key twice inside": b'{"tags": {"a": "b", "a": "c"}}',
    "the same key written in two ways": b'{"name": "a", "na\\u006de": "b"}',
    "NaN": b'{"metrics": {"a": NaN}}',
    "Infinity": b'{"metrics": {"a": -Infinity}}',
    "a huge integer": b'{"version": ' + b"9" * 5000 + b"}",
    "many arrays": b"[" * 16_000,
    "many objects": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "a lone surrogate": b'{"description": "\\ud800"}',
    "a lone surrogate as a key": b'{"\\udc00": 1}',
    "no UTF-8": b'{"description": "\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": json.dumps({"description": "a"}).encode("utf-16"),
    "UTF-32": json.dumps({"description": "a"}).encode("utf-32"),
    "two documents": b"{}{}",
    "half a document": b'{"description": "a',
    "a comment": b"{/**/}",
    "a comma too many": b'{"description": "a",}',
    "gzip": gzip.compress(b"{}"),
}


def send_json(site, operation_id, body, **headers):
    method, path, _ = OPERATIONS[operation_id]
    return site.ask(method, fill(path, NAMES), "root", body, If_Match="*", **{**JSON, **headers})


@pytest.mark.parametrize("operation_id", WITH_JSON)
def test_json_that_parsers_disagree_about_is_refused_by_every_operation(site, operation_id):
    for label, body in HOSTILE.items():
        answer = send_json(site, operation_id, body)

        assert (answer.status, answer.code) == (400, "invalid_request"), label
        assert "body" in answer.json()["detail"]


@pytest.mark.parametrize("operation_id", WITH_JSON)
@pytest.mark.parametrize("value", [None, 1, [], "x", True, {"__proto__": {}}, {"nobody": "knows this"}])
def test_json_of_another_shape_is_refused_by_every_operation(site, operation_id, value):
    answer = send_json(site, operation_id, json.dumps(value).encode())

    taken = value is None and not OPERATIONS[operation_id][2]["requestBody"].get("required")
    assert answer.status in {400, 422} or (taken and answer.status in {201, 409})


@pytest.mark.parametrize("operation_id", WITH_JSON)
def test_a_body_that_is_too_large_is_refused_before_it_is_there(site, operation_id):
    method, path, _ = OPERATIONS[operation_id]
    before = anonymous_bytes(site.pid)
    head = f"{method} {fill(path, NAMES)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ROOT}\r\n"
    head += "Content-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = site.send(head.encode() + b"400000\r\n" + b" " * (4 << 20) + b"\r\n" + b"400000\r\n" + b" " * (4 << 20))

    assert answer is not None
    assert (answer.status, answer.code) == (413, "too_large")
    assert anonymous_bytes(site.pid) - before < MOST_GROWTH_BYTES


def test_a_chunked_body_without_end_holds_nobody_up_and_takes_no_memory(site):
    before, stop = anonymous_bytes(site.pid), threading.Event()
    head = f"PATCH {TEAM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ROOT}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with site.connect() as raw:
        raw.sendall(head.encode())

        def pour():
            try:
                while not stop.is_set():
                    raw.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            except OSError:
                return

        thread = threading.Thread(target=pour)
        thread.start()
        time.sleep(0.5)
        well = site.is_well()
        stop.set()
        raw.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert well
    assert anonymous_bytes(site.pid) - before < MOST_GROWTH_BYTES


@pytest.mark.parametrize("operation_id", WITH_JSON)
@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", "", "x" * 5000],
)
def test_a_body_that_does_not_call_itself_json_is_refused(site, operation_id, kind):
    body = json.dumps(BODIES.get(operation_id, {})).encode()

    answer = send_json(site, operation_id, body, Content_Type=kind)

    assert (answer.status, answer.code) == (422, "invalid_metadata")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-gzip", "GZIP", "compress"])
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_packed_json_body_is_never_unpacked(site, coding, pack):
    bomb = pack(b" " * (1 << 20) + b'{"unsafe": "refuse"}')

    answer = site.ask("PATCH", TEAM, body=bomb, Content_Encoding=coding, **JSON)

    assert (answer.status, answer.code) == (400, "invalid_request")
    assert site.ask("GET", TEAM).json()["unsafe"] == "quarantine"


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in {"gzip", "no UTF-8", "UTF-16", "UTF-32"}])
def test_metadata_of_a_form_is_read_as_strictly(site, name):
    headers, body = form(("model.pt", b"x"), fields={"metadata": HOSTILE[name].decode()})

    answer = site.request(
        "POST", f"{API}/models/vision/strict/versions", {**headers, "Authorization": f"Bearer {ROOT}"}, body
    )

    assert (answer.status, answer.code) == (422, "invalid_metadata")


@pytest.mark.parametrize(
    "body",
    [
        b"--edge\r\n" + b"X: y\r\n" * 100_000,
        b"--edge\r\nX: " + b"y" * (1 << 20),
        b"--edge\r\nContent-Disposition: form-data; name=a\r\n\r\n" + b"x" * (3 << 20),
        b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 3000,
        b"--edge\r\n\r\n\r\n" * 1000,
        b"x" * (1 << 20),
        b"--edge--\r\n" * 1000,
        b"--edge\r\nContent-Disposition: form-data; name=a; " + b"b=c; " * 3000 + b"\r\n\r\n",
        b"--edge\r\nContent-Disposition: form-data; name=a; filename*=utf-8''%ff%00\r\n\r\nx",
    ],
)
def test_a_form_without_end_or_meaning_is_refused_in_bounded_memory(site, body):
    before = anonymous_bytes(site.pid)
    headers = {"Content-Type": "multipart/form-data; boundary=edge", "Authorization": f"Bearer {ROOT}"}

    answer = site.request("POST", f"{API}/models/vision/formless/versions", headers, body)

    assert answer.status in {400, 413, 422}
    assert answer.code is not None
    assert anonymous_bytes(site.pid) - before < MOST_GROWTH_BYTES
    assert site.ask("GET", f"{API}/models/vision/formless").status == 404


def test_whoever_hangs_up_within_a_body_leaves_no_error_in_the_log(site):
    lines = len(site.log.splitlines())
    with site.connect() as raw:
        raw.sendall(
            f"PATCH {TEAM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ROOT}\r\nContent-Length: 9\r\n\r\n{{".encode()
        )
        time.sleep(0.2)
    time.sleep(0.3)

    assert site.is_well()
    assert [line for line in site.log.splitlines()[lines:] if '"ERROR"' in line] == []


def test_every_operation_that_takes_json_was_tried():
    assert len(WITH_JSON) > 10
    assert all(set(parameters_of(name, "path")) <= NAMES.keys() for name in WITH_JSON)
