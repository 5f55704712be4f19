"""A real server and clients that stall: what they hold, for how long, and that others never notice."""

import io
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import urlsplit

import pytest
import raw_clients
import torch
import uvicorn
from embedded import make_weights
from raw_clients import WAIT_SECONDS, read_all, wait_until

from api.app import create_app
from api.serving import server_options
from api.settings import Settings

LARGE_BYTES = 64 << 20
MODEL = "/api/v1/models/vision/net"


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve on a real socket from a thread of this process, with the server's own options; give the URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, **server_options(settings)))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(WAIT_SECONDS)


@pytest.fixture
def impatient(tmp_path):
    with serving(Settings(data=tmp_path / "data", idle_seconds=1)) as url:
        yield url


def connect(url, receive_bytes=None):
    return raw_clients.connect((urlsplit(url).hostname, urlsplit(url).port), receive_bytes)


def head(method, path, length):
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def answer_within(seconds, raw):
    """Return the begin of the answer, None when there is none so far."""
    raw.settimeout(seconds)
    try:
        return raw.recv(1 << 16)
    except TimeoutError:
        return None


def problem(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own service on loopback
        return answer.status


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: local"])
def test_a_head_that_does_not_come_ends_the_connection(impatient, sent):
    with closing(connect(impatient)) as raw:
        raw.sendall(sent)

        assert read_all(raw) == b""


def test_a_head_that_trickles_ends_the_connection_too(impatient):
    with closing(connect(impatient)) as raw:
        raw.sendall(b"GET /")
        until = time.monotonic() + WAIT_SECONDS
        while (answer := answer_within(0.1, raw)) is None:
            assert time.monotonic() < until
            raw.sendall(b"a")

    assert answer == b""


def test_the_second_head_of_a_connection_is_waited_for_no_longer(impatient):
    with closing(connect(impatient)) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.recv(1 << 16).startswith(b"HTTP/1.1 200")
        raw.sendall(b"GET /hea")

        assert read_all(raw).partition(b"\r\n\r\n")[2] in {b"", b'{"status":"ok"}'}


def test_a_json_body_that_stalls_is_answered_408_and_the_connection_ends(impatient):
    with closing(connect(impatient)) as raw:
        raw.sendall(head("PUT", MODEL, 100) + b'{"desc')
        answer = read_all(raw)

    assert answer.startswith(b"HTTP/1.1 408")
    assert problem(answer)["code"] == "request_timeout"


def test_a_json_body_that_trickles_is_not_waited_for_for_ever(impatient):
    stop = threading.Event()
    with closing(connect(impatient)) as raw:
        raw.sendall(head("PUT", MODEL, 100_000))

        def trickle():
            while not stop.wait(0.2):
                try:
                    raw.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        answer = raw.recv(1 << 16)
        stop.set()
        thread.join()

    assert answer.startswith(b"HTTP/1.1 408")


@pytest.fixture
def large(tmp_path):
    """A service with a file that no socket's buffers hold; its few download threads are soon taken by who waits."""
    settings = Settings(data=tmp_path / "data", idle_seconds=2)
    with serving(settings) as url:
        file = io.BytesIO()
        torch.save({"weight": torch.zeros(LARGE_BYTES // 4)}, file)
        with closing(connect(url)) as raw:
            raw.sendall(head("PUT", f"{MODEL}/upload/model.pt", len(file.getvalue())))
            raw.sendall(file.getbuffer())
            assert b" 201 " in raw.recv(1 << 16)
        yield url


def running(url):
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:  # noqa: S310 - our own service on loopback
        text = answer.read().decode()
    [sent] = [line for line in text.splitlines() if line.startswith("weighbridge_sent_bytes_total")]
    downloads = [line for line in text.splitlines() if "requests_total" in line and "artifacts" in line]
    return float(sent.split()[-1]), sum(float(line.split()[-1]) for line in downloads)


def test_readers_that_take_nothing_hold_nobody_up_and_are_cut_off(large):
    path = f"{MODEL}/versions/1/artifacts/model.pt"
    with ExitStack() as stack:
        stalled = [stack.enter_context(closing(connect(large, 4096))) for _ in range(40)]
        for raw in stalled:
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with urllib.request.urlopen(large + path, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - our own service
            assert len(answer.read()) > LARGE_BYTES

        wait_until(lambda: running(large)[1] >= 41)

        with pytest.raises(ConnectionResetError):
            read_all(stalled[0])


def test_a_reader_that_is_slow_gets_everything(large):
    with closing(connect(large, 64 << 10)) as raw:
        raw.sendall(
            f"GET {MODEL}/versions/1/artifacts/model.pt HTTP/1.1\r\n"
            "Host: localhost\r\nConnection: close\r\nRange: bytes=0-9999999\r\n\r\n".encode()
        )
        received, until = 0, time.monotonic() + 5
        while piece := raw.recv(1 << 15):
            received += len(piece)
            if time.monotonic() < until:
                time.sleep(0.05)

    assert received > 10_000_000


def test_slow_uploads_beyond_the_limits_are_told_to_come_again_and_never_starve_a_reader(tmp_path):
    content = make_weights()
    settings = Settings(
        data=tmp_path / "data", uploads=2, uploads_per_caller=6, open_uploads=100, idle_seconds=10, database_pool=2
    )
    with serving(settings) as url, ExitStack() as stack:
        uploads = [stack.enter_context(closing(connect(url))) for _ in range(10)]
        for raw in uploads:
            raw.sendall(head("PUT", f"{MODEL}/upload/model.pt", len(content)) + content[:-10])

        answers = [answer_within(0.5, raw) for raw in uploads]
        refused = [answer for answer in answers if answer is not None]
        assert len(refused) == 4
        assert all(answer.startswith(b"HTTP/1.1 429") and b"retry-after: 5" in answer for answer in refused)
        assert [get(f"{url}/api/v1/models") for _ in range(20)] == [200] * 20

        for raw in (raw for raw, answer in zip(uploads, answers, strict=True) if answer is None):
            raw.sendall(content[-10:])
            assert b" 201 " in answer_within(WAIT_SECONDS, raw)
        with closing(connect(url)) as raw:
            raw.sendall(head("PUT", f"{MODEL}/upload/model.pt", len(content)) + content)
            assert b" 201 " in raw.recv(1 << 16)


def test_a_process_receives_a_bounded_number_of_uploads(tmp_path):
    content = make_weights()
    with serving(Settings(data=tmp_path / "data", open_uploads=3)) as url, ExitStack() as stack:
        uploads = [stack.enter_context(closing(connect(url))) for _ in range(3)]
        for raw in uploads:
            raw.sendall(head("PUT", f"{MODEL}/upload/model.pt", len(content)) + content[:-10])
            assert answer_within(0.3, raw) is None
        fourth = stack.enter_context(closing(connect(url)))
        fourth.sendall(head("PUT", f"{MODEL}/upload/model.pt", len(content)))

        assert fourth.recv(1 << 16).startswith(b"HTTP/1.1 429")
        assert get(f"{url}/api/v1/models") == 200
