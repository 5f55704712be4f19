"""Heads that are too large, and requests that two servers would read differently: refused, in bounded memory."""

import time
from contextlib import suppress

import pytest
from attacks import ROOT, read_answer
from embedded import API, make_weights
from processes import anonymous_bytes

HOST = "Host: localhost\r\n"
TOKEN = f"Authorization: Bearer {ROOT}\r\n"
WHO = f"GET {API}/whoami HTTP/1.1\r\n{HOST}{TOKEN}"
PUSH = f"PUT {API}/models/vision/smuggled/upload/model.pt HTTP/1.1\r\n{HOST}{TOKEN}"
MOST_GROWTH_BYTES = 48 << 20


@pytest.mark.parametrize(
    "head",
    [
        WHO.encode() + b"X-Large: " + b"x" * (70 << 10) + b"\r\n\r\n",
        WHO.encode() + b"X-Large: " + b"x" * (30 << 20) + b"\r\n\r\n",
        WHO.encode() + b"".join(b"X-%d: y\r\n" % number for number in range(200_000)) + b"\r\n",
        b"GET /" + b"x" * (20 << 20) + f" HTTP/1.1\r\n{HOST}\r\n".encode(),
        f"GET {API}/models?search=".encode() + b"x" * (1 << 20) + f" HTTP/1.1\r\n{HOST}{TOKEN}\r\n".encode(),
    ],
    ids=["large header", "huge header", "many headers", "huge request line", "large query"],
)
def test_a_head_that_is_too_large_is_refused_at_once_and_not_kept(site, head):
    before, started = anonymous_bytes(site.pid), time.monotonic()

    answer = site.send(head)

    assert answer is not None
    assert (answer.status, answer.code) == (431, "too_large")
    assert time.monotonic() - started < 3
    assert anonymous_bytes(site.pid) - before < MOST_GROWTH_BYTES
    assert site.is_well()


def test_a_head_of_ordinary_size_is_taken_in_however_many_pieces(site):
    head = (WHO + "Connection: close\r\n" + "".join(f"X-{n}: {'y' * 1000}\r\n" for n in range(50)) + "\r\n").encode()
    with site.connect() as raw:
        for start in range(0, len(head), 5000):
            raw.sendall(head[start : start + 5000])
            time.sleep(0.01)
        assert read_answer(raw).status == 200


def test_requests_behind_each_other_are_counted_each_by_itself(site):
    one = (WHO + f"X-Large: {'x' * 30_000}\r\n\r\n").encode()
    with site.connect() as raw:
        raw.sendall(one * 4 + WHO.encode() + b"Connection: close\r\n\r\n")
        received = b""
        while piece := raw.recv(1 << 16):
            received += piece

    assert received.count(b"HTTP/1.1 200") == 5


@pytest.mark.parametrize(
    "tail", [b"0\r\nX: " + b"x" * (8 << 20), b"5;" + b"x" * (8 << 20), b"0\r\n" + b"X: y\r\n" * (1 << 20)]
)
def test_a_chunked_body_cannot_hide_a_head_without_end(site, tail):
    before = anonymous_bytes(site.pid)

    answer = site.send(f"{PUSH}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode() + tail)

    assert answer is None or answer.status in {400, 431}
    assert anonymous_bytes(site.pid) - before < MOST_GROWTH_BYTES
    assert site.ask("GET", f"{API}/models/vision/smuggled").status == 404
    assert site.is_well()


def test_a_body_in_tiny_chunks_is_a_body_like_any_other(site):
    content = make_weights(5)
    chunks = b"".join(b"1\r\n" + content[at : at + 1] + b"\r\n" for at in range(len(content)))

    head = PUSH.replace("smuggled", "chunks") + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = site.send(head.encode() + chunks + b"0\r\n\r\n")

    assert (answer.status, answer.json()["size_bytes"]) == (201, len(content))


HIDDEN = f"DELETE {API}/models/vision/vision-net HTTP/1.1\r\n{HOST}{TOKEN}\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        "X: y\r\n Transfer-Encoding: chunked",
    ],
)
def test_a_request_that_two_servers_would_frame_differently_is_refused_and_nothing_behind_it_is_done(site, framing):
    answer = site.send(f"{PUSH}{framing}\r\n\r\n0\r\n\r\n{HIDDEN}".encode("latin-1"))

    assert answer is not None
    assert answer.status == 400
    assert site.ask("GET", f"{API}/models/vision/vision-net").status == 200
    assert site.ask("GET", f"{API}/models/vision/smuggled").status == 404


def test_a_body_in_a_packed_transfer_coding_is_refused_and_not_stored_as_it_comes(site):
    answer = site.send(f"{PUSH}Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".encode())

    assert (answer.status, answer.code) == (422, "invalid_request")
    assert site.ask("GET", f"{API}/models/vision/smuggled").status == 404


@pytest.mark.parametrize(
    "chunk", ["zz\r\n", "ffffffffffffffffff\r\n", "-1\r\n", "0x5\r\nhello\r\n", "5\nhello\n", " 5\r\nhello\r\n"]
)
def test_a_chunk_that_is_none_is_refused(site, chunk):
    answer = site.send(f"{PUSH}Transfer-Encoding: chunked\r\n\r\n{chunk}".encode())

    assert answer is not None
    assert answer.status == 400
    assert site.ask("GET", f"{API}/models/vision/smuggled").status == 404


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /api/v1/who ami HTTP/1.1", "GET /api/v1/\xff HTTP/1.1", "GET /healthz HTTP/9.9",
        "PRI * HTTP/2.0", "CONNECT evil.example:80 HTTP/1.1", "G\x00T / HTTP/1.1", "GET /\x00 HTTP/1.1",
    ],
)  # fmt: skip
def test_a_request_line_that_is_none_is_refused(site, request_line):
    answer = site.send(f"{request_line}\r\n{HOST}\r\n".encode("latin-1"))

    assert answer is not None
    assert answer.status in {400, 404}


@pytest.mark.parametrize("what", ["X-A: a\0b", "X-A: b\r\n folded", "X A: b", ": b", "X-A\x01: b", "X-A"])
def test_a_header_that_is_none_is_refused(site, what):
    answer = site.send(f"{WHO}{what}\r\n\r\n".encode("latin-1"))

    assert answer is not None
    assert answer.status == 400


def test_nobody_leaves_http_for_another_protocol(site):
    websocket = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXA=\r\n"
    )
    for head in (
        WHO + websocket,
        WHO + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    ):
        answer = site.send(f"{head}\r\n".encode())

        assert (answer.status, answer.json()["name"]) == (200, "token")


@pytest.mark.parametrize("offer", ["websocket", "h2c", "x"])
@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_the_body_of_a_request_that_offers_another_protocol_is_never_a_request(site, offer, pause):
    head = f"{PUSH}Connection: upgrade\r\nUpgrade: {offer}\r\nContent-Length: {len(HIDDEN)}\r\n\r\n"
    with site.connect() as raw:
        raw.sendall(head.encode())
        time.sleep(pause)
        with suppress(OSError):
            raw.sendall(HIDDEN.encode())
        answer = read_answer(raw)

    assert answer is not None
    assert answer.status == 400
    assert site.ask("GET", f"{API}/models/vision/vision-net").status == 200
