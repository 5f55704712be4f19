"""Pieces of files as a request's body: the same bytes over plain and encrypted connections, and files that change."""

import http.server
import ssl
import threading
from contextlib import contextmanager
from io import FileIO

import pytest

from registry.client.file_sending import FilePiece
from registry.client.transport import make_pools
from registry.errors import SizeMismatchError

CONTENT = bytes(range(256)) * 40_000


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        """Say nothing."""


@contextmanager
def serving(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # a client that breaks off is what is tested
    server.bodies = []
    scheme = "http"
    if context is not None:
        server.socket, scheme = context.wrap_socket(server.socket, server_side=True), "https"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}/", server.bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(params=["plain", "encrypted"])
def service(request, certificate, monkeypatch):
    context = None
    if request.param == "encrypted":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(context) as served:
        yield served


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    with FileIO(path) as file:
        yield file


def put(url, body, length):
    return make_pools(url).request("PUT", url, body=body, headers={"Content-Length": str(length)}, retries=False)


def test_pieces_of_files_and_bytes_arrive_in_their_order(service, file):
    url, bodies = service
    pieces = [FilePiece(file, 5_000_000, 3_000_000), b"between", FilePiece(file, 7, 1), FilePiece(file, 0, 2_000_000)]
    told = CONTENT[5_000_000:8_000_000] + b"between" + CONTENT[7:8] + CONTENT[:2_000_000]

    assert put(url, iter(pieces), len(told)).status == 200
    assert bodies == [told]


def test_a_file_that_became_shorter_is_named(service, file):
    url, bodies = service
    with pytest.raises(SizeMismatchError, match="weights became shorter while it was sent"):
        put(url, iter([FilePiece(file, 0, len(CONTENT) + 1)]), len(CONTENT) + 1)

    assert bodies == [] or len(bodies[0]) <= len(CONTENT)
