"""Web pages and names of other hosts against a service: pages can read and change nothing, on a laptop or elsewhere."""

import json

import pytest
from attacks import OPERATIONS, content_of, fill, parameters_of
from embedded import API, make_weights

CHANGES = [name for name, (method, _, _) in OPERATIONS.items() if method not in {"GET", "HEAD"}]
POSTS_OF_JSON = [name for name in CHANGES if OPERATIONS[name][0] == "POST" and "Content-Type" in content_of(name)[0]]
POSTS_OF_JSON.remove("push_version")  # a form: pages that post it send their `Origin`
NAMES = {"team": "vision", "model": "net", "version": "1", "number": "1", "alias": "gold", "path": "model.pt"}
NAMES |= {"filename": "model.pt", "user": "somebody", "sha256": "sha256:" + "0" * 64, "prefix": "wb_" + "a" * 16}
NAMES |= {"identity": "1", "upload_id": "0" * 32, "position": "0", "other": "1"}
FOREIGN_PAGES = [
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost.evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "https://localhost:1"},
    {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost@evil.example"},
    {"Origin": "file://"},
]
FOREIGN_HOSTS = [
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8000",
    "localhost@evil.example",
    "localhost:8000@evil.example", "localhost,evil.example", "[::1].evil.example", "127.1",
    "2130706433", "0.0.0.0",  # noqa: S104 - refused
    "localhost.", "", " ", "localhost:abc", "[::ffff:127.0.0.1]",
]  # fmt: skip
SIMPLE_KINDS = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=edge",
    "text/plain; application/json",
]


@pytest.fixture(scope="module", autouse=True)
def model(open_site):
    answer = open_site.ask("PUT", f"{API}/models/vision/net/upload/model.pt?alias=gold", None, make_weights())
    assert answer.status == 201


@pytest.mark.parametrize("operation_id", CHANGES)
def test_a_page_of_another_site_changes_nothing_by_any_operation(open_site, operation_id):
    method, path, _ = OPERATIONS[operation_id]
    headers, body = content_of(operation_id)
    for page in FOREIGN_PAGES:
        answer = open_site.request(method, fill(path, NAMES), {**headers, **page}, body)

        assert (answer.status, answer.code) == (403, "permission_denied"), page


@pytest.mark.parametrize("operation_id", POSTS_OF_JSON)
def test_what_a_page_can_send_without_asking_is_refused_even_without_its_headers(open_site, operation_id):
    """Browsers of before `Sec-Fetch-Site`, and extensions that take `Origin` away."""
    method, path, _ = OPERATIONS[operation_id]
    _, body = content_of(operation_id)
    for kind in SIMPLE_KINDS:
        answer = open_site.request(method, fill(path, NAMES), {"Content-Type": kind}, body)

        assert answer.status == 422, kind


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/models/vision/net", "/api/v1/tokens", "/docs", "/healthz"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_page_of_another_site_is_given_no_leave_to_read(open_site, site, path, origin):
    for each in (open_site, site):
        asked = each.request("GET", path, {"Origin": origin})
        preflight = each.request(
            "OPTIONS", path,
            {
                "Origin": origin, "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "authorization", "Access-Control-Request-Private-Network": "true",
            },
        )  # fmt: skip

        assert preflight.status in {401, 403, 404, 405}
        for answer in (asked, preflight):
            assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]
            assert answer.header("cross-origin-resource-policy") == "same-origin"


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_a_name_that_was_pointed_at_this_machine_is_answered_by_no_operation(open_site, operation_id):
    method, path, _ = OPERATIONS[operation_id]
    headers, body = content_of(operation_id)
    for host in FOREIGN_HOSTS:
        answer = open_site.request(method, fill(path, NAMES), {**headers, "Host": host}, body)

        assert (answer.status, answer.header("content-type")) == (403, "application/problem+json"), host


@pytest.mark.parametrize("page", ["/docs", "/openapi.json", "/metrics", "/readyz", "/docs/files/swagger-ui.css"])
def test_a_name_that_was_pointed_at_this_machine_is_shown_no_page(open_site, page):
    assert open_site.request("GET", page, {"Host": "evil.example"}).status == 403


@pytest.mark.parametrize(
    "heads",
    [
        "Host: localhost\r\nHost: evil.example", "Host: evil.example\r\nHost: localhost", "X: y",
        "Host: evil.example\r\nX-Forwarded-Host: localhost", "Host: evil.example\r\nForwarded: host=localhost",
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [f"{API}/models", f"http://localhost{API}/models"])
def test_two_hosts_none_and_the_word_of_a_proxy_are_no_host(open_site, heads, target):
    answer = open_site.send(f"GET {target} HTTP/1.1\r\n{heads}\r\nConnection: close\r\n\r\n".encode())

    assert answer.status in {400, 403}


def test_where_tokens_are_needed_nothing_that_a_browser_sends_by_itself_lets_a_page_in(site):
    """No cookie, no basic authentication that a browser would remember, no query."""
    for operation_id in [name for name in OPERATIONS if OPERATIONS[name][1].startswith(API)]:
        method, path, _ = OPERATIONS[operation_id]
        headers, body = content_of(operation_id)
        token = site.tokens["vision-admin"]
        given = {
            **headers,
            "Cookie": f"token={token}; session={token}; Authorization=Bearer {token}",
            "Origin": "http://evil.example",
        }
        answer = site.request(method, fill(path, NAMES), given, body)

        assert answer.status == 401
        assert answer.header("www-authenticate") == "Bearer"
        assert answer.header("set-cookie") is None


def test_the_walk_over_operations_works_from_the_service_itself(open_site):
    """Else everything above would be refused for another reason."""
    own = {"Origin": open_site.url, "Sec-Fetch-Site": "same-origin"}
    headers, body = content_of("upload_file")

    answer = open_site.request("PUT", fill(OPERATIONS["upload_file"][1], NAMES), {**headers, **own}, body)

    assert answer.status == 201
    assert json.loads(answer.body)["number"] > 1
    assert all(set(parameters_of(name, "path")) <= NAMES.keys() for name in OPERATIONS)
