"""The transport against a small HTTP server that answers as told."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from registry.client.transport import ATTEMPTS_WHEN_TOLD_TO_WAIT, Transport
from registry.errors import (
    AuthenticationRequiredError,
    NotFoundError,
    PreconditionFailedError,
    RateLimitedError,
    ServerUnreachableError,
    UnavailableError,
    UnsafeArtifactError,
    WeighbridgeError,
    iter_error_classes,
)
from registry.schema import AliasUpdate, ServiceInfo

INFO = {
    "version": "1",
    "registry_id": "r",
    "capabilities": [],
    "limits": {"max_artifact_bytes": 1, "max_artifacts": 1, "max_metadata_bytes": 1, "max_page": 1},
}


class Scripted:
    """A server that gives the next answer of its script to every request; the last one again and again."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], bytes]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                scripted.requests.append((self.command, self.path, dict(self.headers)))
                status, headers, body = scripted.script.pop(0) if len(scripted.script) > 1 else scripted.script[0]
                if headers.pop("X-Leave-Body", None) is None:
                    self.rfile.read(int(self.headers.get("Content-Length", 0)))
                else:
                    self.close_connection = True
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the base class's names

            def log_message(self, *_: object) -> None:
                """Keep the test output quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def says(self, status: int, document: object = None, **headers: str) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.script.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, body))

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., Transport]]:
    made: list[Transport] = []

    def connect(url: str, token: str | None = None) -> Transport:
        made.append(Transport(url, token))
        return made[-1]

    yield connect
    for transport in made:
        transport.close()


def test_every_error_comes_back_as_the_class_that_the_service_raised(server, connect):
    transport = connect(server.url)
    for kind in iter_error_classes():
        server.script.clear()
        server.says(400, {"code": kind.code, "detail": "why", "request_id": "abc", "extra_member": [1]})

        with pytest.raises(WeighbridgeError) as caught:
            transport.send("POST", "x")

        assert type(caught.value) is kind
        assert (caught.value.detail, caught.value.request_id) == ("why", "abc")
        assert caught.value.extra == {"extra_member": [1]}


def test_a_busy_service_is_asked_again_after_the_time_it_names(server, connect):
    server.says(503, {"code": "unavailable"}, Retry_After="0")
    server.says(429, {"code": "limit_exceeded"}, Retry_After="0")
    server.says(200, INFO)

    assert connect(server.url).get(ServiceInfo, "").version == "1"
    assert len(server.requests) == 3


def test_whoever_is_told_to_wait_waits_more_patiently_than_for_a_service_that_is_away(server, connect):
    for _ in range(ATTEMPTS_WHEN_TOLD_TO_WAIT - 1):
        server.says(429, {"code": "rate_limited"}, Retry_After="0")
    server.says(200, INFO)

    assert connect(server.url).get(ServiceInfo, "").version == "1"
    server.script.clear()
    for _ in range(ATTEMPTS_WHEN_TOLD_TO_WAIT):
        server.says(429, {"code": "rate_limited"}, Retry_After="0")
    with pytest.raises(RateLimitedError):
        connect(server.url).send("POST", "x")


def test_a_post_without_an_idempotency_key_is_sent_once(server, connect):
    server.says(503, {"code": "unavailable", "detail": "away"}, Retry_After="0")

    with pytest.raises(UnavailableError):
        connect(server.url).send("POST", "x")

    assert len(server.requests) == 1


def test_a_post_with_an_idempotency_key_is_sent_again_with_its_whole_body(server, connect):
    server.says(409, {"code": "publish_in_progress"}, Retry_After="0")
    server.says(200, INFO)
    made = []

    def body() -> Iterator[bytes]:
        made.append(True)
        yield b"12345"

    headers = {"Idempotency-Key": "k", "Content-Length": "5"}
    connect(server.url).call(ServiceInfo, "POST", "x", body=body, headers=headers)

    assert len(made) == 2
    assert {sent["Idempotency-Key"] for _, _, sent in server.requests} == {"k"}


def test_a_change_that_names_what_it_expects_is_not_sent_twice(server, connect):
    server.says(503, {"code": "unavailable"}, Retry_After="0")

    with pytest.raises(UnavailableError):
        connect(server.url).send("PUT", "x", headers={"If-Match": '"1"'}, body=AliasUpdate(version=1))

    assert len(server.requests) == 1


def test_the_token_goes_to_the_service_and_not_along_a_redirect_to_another_host(server, connect):
    other = Scripted()
    try:
        other.says(200, INFO)
        server.says(307, None, Location=f"{other.url}/elsewhere")

        connect(server.url, "secret").get(ServiceInfo, "")

        assert server.requests[0][2]["Authorization"] == "Bearer secret"
        assert "Authorization" not in other.requests[0][2]
    finally:
        other.stop()


def test_the_token_goes_to_the_very_name_of_the_service_only(server, connect):
    server.says(307, None, Location=server.url.replace("127.0.0.1", "localhost") + "/elsewhere")
    server.says(200, INFO)

    connect(server.url, "secret").get(ServiceInfo, "")

    assert ["Authorization" in headers for _, _, headers in server.requests] == [True, False]


def test_nobody_who_is_not_let_in_is_left_without_the_way_in(server, connect, monkeypatch):
    for _ in range(3):
        server.says(401, {"code": "authentication_required", "detail": "Who are you?", "request_id": "abc"})
    with pytest.raises(AuthenticationRequiredError) as caught:
        connect(server.url).get(ServiceInfo, "")
    assert caught.value.detail == f"Who are you? For this service: `weighbridge login {server.url}`."
    assert caught.value.request_id == "abc"
    monkeypatch.setenv("WEIGHBRIDGE_TOKEN", "old")
    with pytest.raises(AuthenticationRequiredError, match="unset it and `weighbridge login"):
        connect(server.url, "old").get(ServiceInfo, "")
    with pytest.raises(AuthenticationRequiredError, match="For this service"):
        connect(server.url, "another").get(ServiceInfo, "")


def test_the_error_of_a_service_that_stops_reading_still_arrives(server, connect):
    server.says(422, {"code": "unsafe_artifact", "detail": "no", "globals": ["os.system"]}, X_Leave_Body="1")

    def body() -> Iterator[bytes]:
        yield from [bytes(1 << 20)] * 64

    with pytest.raises(UnsafeArtifactError) as caught:
        connect(server.url).call(
            ServiceInfo, "POST", "x", body=body, headers={"Idempotency-Key": "k", "Content-Length": str(64 << 20)}
        )
    assert caught.value.extra == {"globals": ["os.system"]}


def test_nothing_listening_says_how_to_start_or_find_a_service(server, connect):
    server.stop()
    with pytest.raises(ServerUnreachableError, match="weighbridge serve") as caught:
        connect(server.url).get(ServiceInfo, "")
    assert server.url in caught.value.detail
    assert "urllib3" not in caught.value.detail


def test_an_answer_that_is_no_problem_document_is_still_a_named_error(server, connect):
    server.says(404, ["not ours"])
    with pytest.raises(NotFoundError, match="Is a Weighbridge service there"):
        connect(server.url).get(ServiceInfo, "")


def test_a_good_answer_of_another_service_is_a_named_error(server, connect):
    server.says(200, {"hello": "world"})
    with pytest.raises(ServerUnreachableError, match="does not speak"):
        connect(server.url).get(ServiceInfo, "")


def test_paths_and_queries_are_percent_encoded(server, connect):
    from registry.client.transport import route

    server.says(412, {"code": "precondition_failed"})
    with pytest.raises(PreconditionFailedError):
        connect(server.url).get(ServiceInfo, route("models", "a b/ü"), [("tag", "x=y&z"), ("cursor", None)])
    assert server.requests[0][1] == "/api/v1/models/a%20b%2F%C3%BC?tag=x%3Dy%26z"
