"""A web server for files: continues downloads, and misbehaves on demand."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileHost:
    """Files by path, and how they are served.

    Attributes:
        files: bytes by path (`/models/a.pth`).
        redirects: from path to URL or path.
        headers: added to every answer, by path.
        cut_after: bytes of a body after which the connection is reset, while `cuts_left` lasts.
        statuses: answered first, one a request.
        resumes: whether `Range` is honoured.
        etag: of a path's present bytes; None sends none.
        sizes: whether `Content-Length` is sent.
        asked: method, path and headers of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    cut_after: int = 0
    cuts_left: int = 0
    statuses: list[int] = field(default_factory=list)
    resumes: bool = True
    etags: bool = True
    honours_if_range: bool = True
    sizes: bool = True
    on_cut: object = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def etag(self, path: str) -> str:
        return f'"{hashlib.md5(self.files[path], usedforsecurity=False).hexdigest()}"'

    def ranges(self, path: str) -> list[str | None]:
        """The `Range` of every request for a path."""
        return [headers.get("range") for asked, headers in self.asked if asked == path]


class _Handler(BaseHTTPRequestHandler):
    host: FileHost
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        sent = {name.lower(): value for name, value in self.headers.items()}
        self.host.asked.append((self.path, sent))
        if self.host.statuses:
            self._plain(self.host.statuses.pop(0))
        elif self.path in self.host.redirects:
            self._plain(302, Location=self.host.redirects[self.path])
        elif self.path not in self.host.files:
            self._plain(404)
        elif self.host.etags and sent.get("if-none-match") == self.host.etag(self.path):
            self._plain(304)
        else:
            self._send_file(sent)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _plain(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, **self.host.headers.get(self.path, {}), "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(self, sent: dict[str, str]) -> None:
        data = self.host.files[self.path]
        start = 0
        current = (
            not self.host.honours_if_range or not self.host.etags or sent.get("if-range") == self.host.etag(self.path)
        )
        if self.host.resumes and "range" in sent and current:
            start = int(sent["range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self._plain(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if self.host.etags:
            self.send_header("ETag", self.host.etag(self.path))
        for name, value in self.host.headers.get(self.path, {}).items():
            self.send_header(name, value)
        if self.host.sizes:
            self.send_header("Content-Length", str(len(data) - start))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        body = data[start:] if self.command == "GET" else b""
        if self.host.cuts_left and len(body) > self.host.cut_after:
            self.host.cuts_left -= 1
            body = body[: self.host.cut_after]
            self.close_connection = True
        with suppress(OSError):  # whoever asked may have seen enough
            self.wfile.write(body)
            self.wfile.flush()
        if self.close_connection and callable(self.host.on_cut):
            self.host.on_cut()


@contextmanager
def file_host() -> Iterator[FileHost]:
    """A running server on a free loopback port."""
    host = FileHost()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"host": host}))
    host.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
