"""Headers and links of answers: nothing that somebody sent can add a line, lead elsewhere, or be taken for a page."""

import itertools
import json
import re
from urllib.parse import quote

import pytest
from attacks import OPERATIONS, ROOT, content_of, fill, form, parameters_of
from embedded import API, make_weights

SPLITS = [
    "\r\nSet-Cookie: a=b",
    "\nSet-Cookie: a=b",
    "\r\n\r\n<script>",
    "\u010d\u010aSet-Cookie: a=b",
    "\u2028X: y",
    "\x0b\x0cX: y",
    "é😀",
]
SAFEGUARDS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
}
EVIL = "evil.example"
HOSTS = [
    {"Host": EVIL},
    {"Host": f"{EVIL}:80@localhost"},
    {"X-Forwarded-Host": EVIL, "X-Forwarded-Proto": "gopher", "X-Forwarded-Port": "666"},
    {"Forwarded": f"host={EVIL};proto=gopher"},
    {"X-Original-URL": f"http://{EVIL}/", "X-Rewrite-URL": "/healthz", "X-Forwarded-Prefix": f"//{EVIL}"},
    {"Origin": f"http://{EVIL}", "Referer": f"http://{EVIL}/"},
]
NAMES = {"team": "vision", "model": "vision-net", "version": "1", "number": "1", "alias": "gold", "path": "model.pt"}
PLACES = [(name, place) for name in OPERATIONS for place in parameters_of(name, "path")]
NAMES |= {"filename": "model.pt", "user": "vision-reader", "sha256": "sha256:" + "0" * 64, "prefix": "wb_" + "a" * 16}
NAMES |= {"identity": "1", "upload_id": "0" * 32, "position": "0", "other": "1"}


def raw_head(site, request):
    """Return the lines of the head that comes back, as they come."""
    with site.connect() as raw:
        raw.sendall(request)
        received = b""
        while piece := raw.recv(1 << 16):
            received += piece
    return received.partition(b"\r\n\r\n")[0].split(b"\r\n")


def lines_of(site, method, target, body=b"", **headers):
    given = {
        "Host": "x",
        "Authorization": f"Bearer {ROOT}",
        "Connection": "close",
        "Content-Length": len(body),
        **headers,
    }
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return raw_head(site, f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)


def is_clean(lines):
    return all(re.fullmatch(rb"[A-Za-z-]+: [\x20-\x7e]*", line) for line in lines[1:]) and not any(
        line.lower().startswith((b"set-cookie", b"x:")) for line in lines
    )


@pytest.mark.parametrize(("operation_id", "place"), PLACES)
def test_no_name_in_a_path_adds_a_line_to_a_head(site, operation_id, place):
    method, path, _ = OPERATIONS[operation_id]
    headers, body = content_of(operation_id)
    for split in SPLITS:
        target = fill(path, NAMES | {"model": "split", place: f"a{split}"})

        lines = lines_of(site, method, target, body or b"", **headers)

        assert is_clean(lines), lines


@pytest.mark.parametrize("split", SPLITS)
def test_what_was_stored_adds_no_line_to_a_head(site, split):
    name = f"a{split}b.txt".replace("\r", "").replace("\n", "")
    headers, body = form((f"x/{name}", b"content"), ("good.txt", b"x"), fields={"tag.a": split, "description": split})
    pushed = site.request(
        "POST", f"{API}/models/vision/stored/versions", {**headers, "Authorization": f"Bearer {ROOT}"}, body
    )
    if pushed.status == 201:
        version = f"{API}/models/vision/stored/versions/{pushed.json()['number']}"
        for target in (version, f"{version}/artifacts/{quote(f'x/{name}')}", f"{version}/artifacts/good.txt"):
            assert is_clean(lines_of(site, "GET", target))
        assert pushed.json()["annotations"]["description"] == split
    else:
        assert pushed.code in {"invalid_path", "invalid_metadata"}


@pytest.mark.parametrize(
    "given",
    [
        "short",
        "x" * 65,
        "x" * 5000,
        "a b c d e f g h",
        "a\tb-long-enough",
        "<script>alert",
        "é-latin-1-id",
        "a;b=c,d-long",
    ],
)
def test_a_request_id_that_is_long_or_odd_is_replaced(site, given):
    answer = site.ask("GET", f"{API}/models/none/none", X_Request_Id=given)

    assert re.fullmatch("[0-9a-f]{32}", answer.header("x-request-id"))
    assert answer.json()["request_id"] == answer.header("x-request-id")


def test_a_request_id_of_a_proxy_is_kept_and_told_once(site):
    answer = site.ask("GET", f"{API}/models/none/none", X_Request_Id="proxy-id.0123_ABC")

    assert answer.header("x-request-id") == answer.json()["request_id"] == "proxy-id.0123_ABC"


@pytest.mark.parametrize(
    "name",
    [
        "If-Match", "If-None-Match", "If-Range", "Range", "Repr-Digest", "Idempotency-Key", "Authorization",
        "Content-Type", "Accept", "Cookie", "X-Forwarded-For", "Expect",
    ],
)  # fmt: skip
def test_odd_values_of_headers_come_back_nowhere(site, name):
    model, values = (
        f"{API}/models/vision/vision-net",
        [b"\xff\xfe\x80", '"' * 3000, "x" * 30_000, "\x7f", "", ", ,", "*" * 500],
    )
    requests = [
        ("GET", f"{model}/versions/1/artifacts/model.pt", None),
        ("PATCH", f"{model}/versions/1", b"{}"),
        ("PUT", f"{API}/models/vision/odd/upload/a.bin", b"x"),
    ]
    for value, (method, target, body) in itertools.product(values, requests):
        answer = site.request(method, target, {"Authorization": f"Bearer {ROOT}", name: value}, body)

        assert answer.status < 500, answer.body
        assert all(len(each) < 500 and each.isascii() for _, each in answer.headers)


def test_an_address_that_a_proxy_made_up_is_kept_no_longer_than_an_address(site):
    site.ask("GET", f"{API}/models", "no-token", X_Forwarded_For="y" * 5000)

    newest = site.ask("GET", f"{API}/audit?action=login.fail&limit=5").json()["items"]
    assert all(len(entry["address"]) <= 64 for entry in newest)
    assert "y" * 65 not in site.log


@pytest.mark.parametrize(
    "headers", HOSTS, ids=[next(iter(headers)) + str(number) for number, headers in enumerate(HOSTS)]
)
def test_no_link_and_no_location_comes_from_what_a_request_says_of_its_host(site, headers):
    seen = 0
    for operation_id, (method, path, _) in OPERATIONS.items():
        if method == "DELETE" or operation_id in {"purge_version", "update_user", "set_member"}:
            continue
        given, body = content_of(operation_id)
        target = fill(path, NAMES | {"model": "hosted", "user": "hosted"})
        answer = site.request(method, target, {**given, "Authorization": f"Bearer {ROOT}", **headers}, body)
        location = answer.header("location")
        seen += location is not None

        assert EVIL not in str(answer.headers)
        assert EVIL not in answer.body.decode("latin-1")
        assert "gopher" not in answer.body.decode("latin-1")
        assert location is None or location.startswith(f"{API}/models/vision/hosted")
    assert seen >= 2
    for page in (
        "/docs",
        "/openapi.json",
        "/docs/",
        "/docs/files",
        "/docs/files/",
        "//evil.example/",
        "/api/v1/",
        f"{API}/models/",
    ):
        answer = site.request("GET", page, headers)
        assert answer.header("location") is None
        assert EVIL not in answer.body.decode().replace("//evil.example/", "")


@pytest.mark.parametrize("target", ["http://evil.example/api/v1/whoami", "https://evil.example:444/api/v1/whoami"])
def test_a_target_with_another_host_is_answered_as_its_path(site, target):
    answer = site.ask("GET", target)

    assert (answer.status, answer.json()["name"]) == (200, "token")
    assert EVIL not in str(answer)


@pytest.mark.parametrize("operation_id", OPERATIONS)
@pytest.mark.parametrize("who", ["root", "no-such-token"])
def test_every_answer_says_that_it_is_no_page(site, operation_id, who):
    method, path, _ = OPERATIONS[operation_id]
    if method not in {"GET", "HEAD"}:
        who = "no-such-token"
    answer = site.ask(method, fill(path, NAMES), who, b"" if method in {"PUT", "POST", "PATCH"} else None)

    assert {name: answer.header(name) for name in SAFEGUARDS} == SAFEGUARDS
    assert (answer.header("content-type") or "").partition(";")[0] in {
        "", "application/json", "application/problem+json", "application/octet-stream", "application/x-ndjson",
        "text/plain",
    }  # fmt: skip
    assert not [
        name for name, _ in answer.headers if name.lower().startswith("access-control-") or name.lower() == "set-cookie"
    ]
    assert "python" not in str(answer.headers).lower()
    assert "uvicorn" not in str(answer.headers).lower()


@pytest.mark.parametrize(
    "page", ["/docs", "/openapi.json", "/nowhere", "/docs/files/swagger-ui.css", "/docs/files/nothing"]
)
def test_pages_are_framed_by_nobody(site, page):
    answer = site.ask("GET", page, None)

    assert {name: answer.header(name) for name in SAFEGUARDS} == SAFEGUARDS


def test_an_uploaded_page_is_downloaded_and_never_shown(site):
    page = b"<!doctype html><script>alert(1)</script>"
    headers, body = form(("index.html", page), ("image.svg", b"<svg onload='alert(1)'/>"))
    pushed = site.request(
        "POST", f"{API}/models/vision/pages/versions", {**headers, "Authorization": f"Bearer {ROOT}"}, body
    )

    for name in ("index.html", "image.svg"):
        answer = site.ask(
            "GET", f"{API}/models/vision/pages/versions/{pushed.json()['number']}/artifacts/{name}", Accept="text/html"
        )
        assert answer.header("content-type") == "application/octet-stream"
        assert answer.header("content-disposition").startswith("attachment;")
        assert answer.header("x-content-type-options") == "nosniff"


def test_errors_that_repeat_what_was_sent_are_json_and_escape_nothing_into_a_page(site):
    answer = site.ask("GET", f"{API}/models/vision/{quote('<script>alert(1)</script>', safe='')}", Accept="text/html")

    assert answer.header("content-type") == "application/problem+json"
    assert "<script>" in json.loads(answer.body)["detail"]


def test_the_weights_of_one_model_are_never_taken_from_a_cache_by_another_caller(site):
    path = f"{API}/models/vision/vision-net/versions/1/artifacts/model.pt"
    answer = site.ask("GET", path, "vision-reader")
    tag = answer.header("etag")

    assert answer.header("cache-control") == "private, no-cache"
    assert site.ask("GET", path, "outsider", If_None_Match=tag).status == 404
    assert site.ask("PUT", f"{API}/models/vision/other/upload/model.pt", body=make_weights(1)).status == 201
