"""Bodies on their way into files: the same bytes whether the kernel moves them or Python does, however they come."""

import itertools
import os
import socket
import ssl
import struct
import sys
import threading
from contextlib import closing, contextmanager

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from registry.client import landing
from registry.client.answers import Incoming
from registry.client.landing import Landing
from registry.client.places import PlacedFile
from registry.client.transport import make_pools
from registry.errors import ServerUnreachableError

CONTENT = bytes(range(251)) * 9_000
WAIT_SECONDS = 30
STALL, RESET = "stall", "reset"
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux moves pages from a connection to a file")


@contextmanager
def answering(*answers, context=None):
    """Serve one connection: after each head that comes, send the next answer, pieces and perhaps an end."""
    gone = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(WAIT_SECONDS)

    def serve():
        connection = listener.accept()[0]
        connection.settimeout(WAIT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = connection if context is None else context.wrap_socket(connection, server_side=True)
        with connection:
            for pieces in answers:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    asked += connection.recv(1000)
                for piece in pieces:
                    if piece == STALL:
                        gone.wait(WAIT_SECONDS)
                    elif piece == RESET:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    else:
                        connection.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http{'' if context is None else 's'}://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        gone.set()
        thread.join()
        listener.close()


@contextmanager
def asked(pools, url, **timeout):
    response = pools.request("GET", url, preload_content=False, retries=False, **timeout)
    with closing(Incoming(response.status, response.headers, response, url)) as incoming:
        yield incoming


def land(incoming, file, length, pieces=(1 << 20,), where=0):
    """Move a body into a file, at most so many bytes at a time, in turns; return how much of it came."""
    position, turns = 0, itertools.cycle(pieces)
    with Landing() as place:
        while position < length:
            most = min(next(turns), length - position)
            size = place.move(incoming, file, where + position, most)
            assert size <= most
            if not size:
                break
            position += size
    return position


@pytest.fixture
def file(tmp_path):
    with closing(PlacedFile(tmp_path / "file")) as file:
        yield file


def head(length):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


def cut(data, places):
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.integers(1, 200_000),
    st.lists(st.integers(0, 200_200), max_size=6),
    st.lists(st.integers(1, 90_000), min_size=1, max_size=4),
    st.integers(0, 10_000),
)
def test_every_byte_lands_in_its_place_and_the_connection_goes_on(tmp_path, length, places, pieces, where):
    body, path = CONTENT[:length], tmp_path / "file"
    path.unlink(missing_ok=True)
    with (
        answering(cut(head(length) + body, places), [head(2), b"on"]) as url,
        closing(PlacedFile(path)) as file,
        make_pools(url) as pools,
    ):
        with asked(pools, url) as incoming:
            assert land(incoming, file, length, pieces, where) == length
        with asked(pools, url) as incoming:
            assert incoming.read() == b"on"
    assert path.read_bytes() == bytes(where) + body


@only_linux
def test_python_touches_no_more_than_what_came_with_the_head_and_the_last_byte(file, monkeypatch):
    read = []
    read_into = Incoming.read_into
    monkeypatch.setattr(Incoming, "read_into", lambda self, buffer: read.append(read_into(self, buffer)) or read[-1])
    with answering([head(len(CONTENT)), CONTENT]) as url, make_pools(url) as pools, asked(pools, url) as incoming:
        assert land(incoming, file, len(CONTENT)) == len(CONTENT)
    assert read == [1]


def test_what_is_encrypted_is_read(certificate, file, tmp_path, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        answering([head(len(CONTENT)), CONTENT], context=context) as url,
        make_pools(url) as pools,
        asked(pools, url) as incoming,
    ):
        assert land(incoming, file, len(CONTENT)) == len(CONTENT)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", [b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\n\r\n"]),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", [b"hello", b" world"]),
    ],
    ids=["chunked", "until it is closed"],
)
def test_what_has_no_known_length_is_read(head, body, file, tmp_path):
    with answering([head, *body]) as url, make_pools(url) as pools, asked(pools, url) as incoming:
        assert land(incoming, file, 1_000) == len(b"hello world")
    assert (tmp_path / "file").read_bytes() == b"hello world"


@pytest.mark.parametrize("came", [0, 100, 1_000_000])
def test_of_a_connection_that_ends_too_early_there_is_what_came(file, tmp_path, came):
    with (
        answering([head(len(CONTENT)), CONTENT[:came]]) as url,
        make_pools(url) as pools,
        asked(pools, url) as incoming,
    ):
        assert land(incoming, file, len(CONTENT)) == came
    assert (tmp_path / "file").read_bytes() == CONTENT[:came]


@pytest.mark.parametrize("came", [100, 1_000_000])
def test_a_connection_that_stalls_is_given_up(file, came):
    with (
        answering([head(len(CONTENT)), CONTENT[:came], STALL]) as url,
        make_pools(url) as pools,
        asked(pools, url, timeout=0.3) as incoming,
        pytest.raises(ServerUnreachableError, match="timed out"),
    ):
        land(incoming, file, len(CONTENT))


def test_a_connection_that_is_reset_is_named(file):
    with (
        answering([head(len(CONTENT)), CONTENT[:1_000_000], RESET]) as url,
        make_pools(url) as pools,
        asked(pools, url) as incoming,
        pytest.raises(ServerUnreachableError, match="broke before the end"),
    ):
        assert land(incoming, file, len(CONTENT)) < len(CONTENT)


@only_linux
def test_a_file_that_takes_no_pages_gets_bytes(tmp_path, file):
    import fcntl

    flags = fcntl.fcntl(file._descriptor, fcntl.F_GETFL)
    fcntl.fcntl(file._descriptor, fcntl.F_SETFL, flags | os.O_APPEND)  # to which Linux splices nothing
    with answering([head(len(CONTENT)), CONTENT]) as url, make_pools(url) as pools, asked(pools, url) as incoming:
        assert land(incoming, file, len(CONTENT)) == len(CONTENT)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_where_pages_cannot_be_moved_bytes_are_read(file, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "splice", raising=False)
    monkeypatch.setattr(landing, "BUFFER_BYTES", 1_000)
    with answering([head(len(CONTENT)), CONTENT]) as url, make_pools(url) as pools, asked(pools, url) as incoming:
        assert land(incoming, file, len(CONTENT)) == len(CONTENT)
    assert (tmp_path / "file").read_bytes() == CONTENT
