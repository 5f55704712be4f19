"""Bodies past the parser, on real sockets: every byte, in its order, and whatever comes before and behind it."""

import asyncio
import gc
import os
import random
import socket
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import uvicorn
from raw_clients import WAIT_SECONDS, connect, read_all, wait_until

from api.connection import PatientProtocol
from api.direct import RECEIVE_INTO, SEND_FILE

IDLE_SECONDS = 1
BUFFER_BYTES = 100_000
LARGE_BYTES = 16 << 20
HEAD_BYTES = 7 << 20
"""More than the kernel takes at once."""


class Echo:
    """An app that notes each body, and how it came; with `take` it answers after so many bytes."""

    def __init__(self):
        self.bodies = []
        self.kinds = []
        self.ends = []

    async def __call__(self, scope, receive, send):
        take = int(scope["query_string"] or b"-1")
        buffer = bytearray(BUFFER_BYTES)
        offer = scope.get("extensions", {}).get(RECEIVE_INTO)
        body, kinds = b"", set()
        while take < 0 or len(body) < take:
            if offer is not None:
                offer(memoryview(buffer))
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ends.append(len(body))
                return
            if message["body"]:
                kinds.add(type(message["body"]))
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        self.kinds.append(kinds)
        told = b"%d" % len(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
        await send({"type": "http.response.body", "body": told})


class Files:
    """An app that answers with a file: the head of it as bytes, the rest in pieces of the file."""

    def __init__(self, path, announced=None):
        self.path = path
        self.announced = announced
        self.errors = []
        self.descriptors = []
        self.took_files = []

    async def __call__(self, scope, receive, send):
        size = self.path.stat().st_size
        length = self.announced or size
        headers = [(b"content-length", b"%d" % length)]
        self.took_files.append(SEND_FILE in scope.get("extensions", {}))
        with self.path.open("rb") as file:
            self.descriptors.append(file.fileno())
            try:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": file.read(HEAD_BYTES), "more_body": True})
                for start in range(HEAD_BYTES, size, 3 << 20):
                    count = min(3 << 20, size - start)
                    if self.took_files[-1]:
                        piece = {"type": SEND_FILE, "file": file.fileno(), "offset": start, "count": count}
                    else:
                        piece = {"type": "http.response.body", "body": os.pread(file.fileno(), count, start)}
                    await send({**piece, "more_body": start + count < size})
            except BaseException as error:
                self.errors.append(error)
                raise


@contextmanager
def serving(app):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=PatientProtocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=IDLE_SECONDS
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(WAIT_SECONDS)
    assert not thread.is_alive()


def request(length, *, take=None, more=""):
    where = "/" if take is None else f"/?{take}"
    return f"PUT {where} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {length}\r\n\r\n".encode()


def read_answer(raw):
    """Return status and body of one answer, and leave what is behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = raw.recv(1)
        assert piece, head
        head += piece
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        piece = raw.recv(length - len(body))
        assert piece
        body += piece
    return int(head.split()[1]), body


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def address(echo):
    with serving(echo) as address:
        yield address


@pytest.fixture(scope="module")
def content():
    return random.Random(3).randbytes(LARGE_BYTES)


@pytest.fixture
def file(tmp_path, content):
    path = tmp_path / "weights"
    path.write_bytes(content)
    return path


def test_a_body_comes_in_its_order_into_the_buffers_however_it_is_cut(address, echo):
    chance = random.Random(1)
    sent = [chance.randbytes(chance.choice([1, 99_999, 100_000, 100_001, 250_000, 3_000_000])) for _ in range(20)]
    with closing(connect(address)) as raw:
        for body in sent:
            data = request(len(body)) + body
            while data:
                size = chance.choice([1, 70, 5_000, 200_000, 4_000_000])
                raw.sendall(data[:size])
                data = data[size:]
                if size < 100:
                    time.sleep(0.002)
            assert read_answer(raw) == (200, b"%d" % len(body))

    assert echo.bodies == sent
    assert memoryview in set().union(*echo.kinds)


@pytest.mark.parametrize("together", [50_000, 150_000])
def test_what_comes_together_with_its_head_goes_into_the_buffers_too(address, echo, together):
    body = random.Random(2).randbytes(400_000)
    with closing(connect(address)) as raw:
        raw.sendall(request(len(body)) + body[:together])
        time.sleep(0.05)
        raw.sendall(body[together:])

        assert read_answer(raw) == (200, b"400000")
    assert echo.bodies == [body]
    assert echo.kinds == [{memoryview}]


def test_a_body_that_nobody_asks_for_yet_waits_in_the_kernel():
    parsed = []

    async def app(scope, receive, send):
        await asyncio.sleep(0.2)
        parsed.append(len(scope["extensions"][RECEIVE_INTO].__self__._protocol.cycle.body))
        await Echo()(scope, receive, send)

    with serving(app) as address, closing(connect(address)) as raw:
        raw.sendall(request(300_000))
        time.sleep(0.05)
        raw.sendall(b"w" * 300_000)

        assert read_answer(raw) == (200, b"300000")
    assert parsed == [0]


@pytest.mark.parametrize("take", [None, 100_000])
def test_a_connection_that_waits_for_its_next_request_keeps_no_buffer(take):
    buffer = bytearray(BUFFER_BYTES)

    async def app(scope, receive, send):
        offer = scope["extensions"][RECEIVE_INTO]
        more, taken = True, 0
        offer(memoryview(buffer))
        while more and (take is None or taken < take):
            message = await receive()
            more, taken = message["more_body"], taken + len(message["body"])
            offer(memoryview(buffer))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with serving(app) as address, closing(connect(address)) as raw:
        raw.sendall(request(300_000, take=take) + b"w" * 300_000)
        assert read_answer(raw) == (200, b"")
        gc.collect()

        buffer.append(0)  # what still has a view of it forbids that


def test_a_body_in_chunks_is_parsed_as_ever(address, echo):
    with closing(connect(address)) as raw:
        raw.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            raw.sendall(b"30D40\r\n" + b"w" * 200_000 + b"\r\n")
        raw.sendall(b"0\r\n\r\n")

        assert read_answer(raw) == (200, b"600000")
    assert echo.bodies == [b"w" * 600_000]
    assert echo.kinds == [{bytes}]


def test_what_is_sent_behind_a_body_without_waiting_is_answered_in_its_order(address, echo):
    bodies = [bytes([number]) * 400_000 for number in range(5)]
    with closing(connect(address)) as raw:
        raw.sendall(b"".join(request(len(body)) + body for body in bodies))

        assert [read_answer(raw) for _ in bodies] == [(200, b"400000")] * 5
    assert echo.bodies == bodies


def test_many_small_requests_at_once_are_answered_in_their_order(address, echo):
    bodies = [b"%d" % number * (number % 7) for number in range(100)]
    with closing(connect(address)) as raw:
        raw.sendall(b"".join(request(len(body)) + body for body in bodies))

        assert [read_answer(raw)[1] for _ in bodies] == [b"%d" % len(body) for body in bodies]
    assert echo.bodies == bodies


def test_the_rest_of_a_body_that_was_answered_early_is_thrown_away(address, echo):
    with closing(connect(address)) as raw:
        raw.sendall(request(4_000_000, take=300_000) + b"w" * 1_000_000)
        status, taken = read_answer(raw)
        assert status == 200
        assert 300_000 <= int(taken) < 1_000_001
        raw.sendall(b"w" * 3_000_000)
        raw.sendall(request(200_000) + b"v" * 200_000)

        assert read_answer(raw) == (200, b"200000")
    assert echo.bodies[1] == b"v" * 200_000


def test_who_trickles_a_refused_body_may_and_who_stalls_is_let_go(address):
    with closing(connect(address)) as raw:
        raw.sendall(request(1_000_000, take=200_000) + b"w" * 400_000)
        assert read_answer(raw)[0] == 200
        for _ in range(4):
            time.sleep(IDLE_SECONDS / 2)
            raw.sendall(b"w" * 100_000)

        assert raw.recv(1) == b""  # and then nothing came for so long


def test_a_client_that_asks_before_it_sends_is_told_to(address, echo):
    with closing(connect(address)) as raw:
        raw.sendall(request(300_000, more="Expect: 100-continue\r\n"))
        assert raw.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"w" * 300_000)

        assert read_answer(raw) == (200, b"300000")
    assert echo.bodies == [b"w" * 300_000]


@pytest.mark.parametrize("sent", [0, 10, 350_000])
def test_a_client_that_goes_away_within_a_body_is_noticed(address, echo, sent):
    with closing(connect(address)) as raw:
        raw.sendall(request(4_000_000) + b"w" * sent)
        if sent:
            time.sleep(0.1)

    wait_until(lambda: echo.ends)
    assert echo.bodies == []
    assert echo.ends[0] <= sent


def test_a_connection_that_is_to_be_closed_is(address):
    with closing(connect(address)) as raw:
        raw.sendall(request(300_000, more="Connection: close\r\n") + b"w" * 300_000)

        assert read_answer(raw) == (200, b"300000")
        assert raw.recv(1) == b""


def test_a_file_is_sent_whole_and_the_connection_goes_on(file, content):
    app = Files(file)
    with serving(app) as address, closing(connect(address)) as raw:
        for _ in range(2):
            raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(raw) == (200, content)

    assert app.took_files == [True, True]


def test_files_asked_for_without_waiting_come_in_their_order(file, content):
    app = Files(file)
    with serving(app) as address, closing(connect(address)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)

        assert [read_answer(raw) for _ in range(3)] == [(200, content)] * 3


def test_a_reader_who_is_slow_gets_all_and_one_who_stalls_is_let_go(file, content):
    app = Files(file)
    with serving(app) as address:
        with closing(connect(address, 4096)) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            pieces = []
            deadline = time.monotonic() + 3 * IDLE_SECONDS
            while time.monotonic() < deadline:
                pieces.append(slow.recv(20_000))
                time.sleep(0.05)
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            assert (b"".join(pieces) + read_all(slow)).endswith(b"\r\n\r\n" + content)
        with closing(connect(address, 4096)) as stalled:
            stalled.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: app.errors)
            with pytest.raises(ConnectionError):
                read_all(stalled)

    assert isinstance(app.errors[0], ConnectionError)


def test_a_reader_who_goes_away_within_a_file_is_noticed(file):
    app = Files(file)
    with serving(app) as address:
        with closing(connect(address, 4096)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            raw.recv(100)
        wait_until(lambda: app.errors)

    assert isinstance(app.errors[0], ConnectionError)


def test_more_of_a_file_than_was_announced_breaks_the_answer_off(file):
    app = Files(file, announced=9 << 20)
    with serving(app) as address, closing(connect(address)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert len(read_all(raw).partition(b"\r\n\r\n")[2]) <= 9 << 20
    assert isinstance(app.errors[0], RuntimeError)


def test_a_file_that_became_shorter_breaks_the_answer_off(file):
    class Shrinking(Files):
        async def __call__(self, scope, receive, send):
            async def send_shrunk(message):
                if message["type"] == SEND_FILE:
                    os.truncate(self.path, 2 << 20)
                await send(message)

            await super().__call__(scope, receive, send_shrunk)

    app = Shrinking(file)
    with serving(app) as address, closing(connect(address)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert len(read_all(raw)) < LARGE_BYTES
    assert isinstance(app.errors[0], OSError)


def test_connections_that_are_gone_leave_no_descriptor(file):
    def open_descriptors():
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    app = Files(file)
    with serving(app) as address:
        with closing(connect(address)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            read_answer(raw)
        before = open_descriptors()
        for _ in range(20):
            with closing(connect(address, 4096)) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                raw.recv(100)
        wait_until(lambda: open_descriptors() <= before)
