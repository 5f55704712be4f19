"""The least of a Hub that huggingface_hub 2.4 and hf_xet 1.8 push to: it keeps what they send, and believes it.

    python xet_receiver.py PORT FOLDER

It knows no chunk and no shard of before, so that what a client leaves out is what the client itself remembers.
"""

import json
import shutil
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PIECE_BYTES = 1 << 20


class _Receiver(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def do_HEAD(self) -> None:
        self._answer(404, None)

    def do_GET(self) -> None:
        if "/xet-write-token/" in self.path or "/xet-read-token/" in self.path:
            expires = int(time.time()) + 3600
            cas = f"http://{self.headers['Host']}/xet"
            headers = {
                "X-Xet-Cas-Url": cas,
                "X-Xet-Access-Token": "xet",
                "X-Xet-Token-Expiration": str(expires),
            }
            self._answer(200, {"accessToken": "xet", "exp": expires, "casUrl": cas}, headers)
        elif self.path == "/healthz":
            self._answer(200, {})
        else:
            self._answer(404, {"error": "There is none."})

    def do_POST(self) -> None:
        if self.path.startswith("/xet/v1/xorbs/"):
            self._keep(self.folder / self.path.rpartition("/")[2])
            self._answer(200, {"was_inserted": True})
            return
        body = self._read()
        if self.path.startswith("/xet/v1/shards"):
            self._answer(200, {"result": 1})
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "lfs", "shouldIgnore": False} for each in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            oid = "0" * 40
            where = f"http://{self.headers['Host']}/bench/net/commit/{oid}"
            self._answer(200, {"success": True, "commitOid": oid, "commitUrl": where})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        else:
            self._answer(404, {"error": "There is none."})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that is overridden
        """Say nothing."""

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _keep(self, file: Path) -> None:
        if "Content-Length" not in self.headers:
            file.write_bytes(self._read())
            return
        left = int(self.headers["Content-Length"])
        with file.open("wb") as writing:
            while left and (piece := self.rfile.read(min(left, _PIECE_BYTES))):
                left -= writing.write(piece)

    def _answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Receive until this process is stopped."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _Receiver.folder = folder
    server = ThreadingHTTPServer(("127.0.0.1", port), _Receiver)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
