"""An export from a service that would like to write elsewhere: nothing leaves the folder."""

import hashlib
import http.server
import json
import threading
from urllib.parse import unquote, urlsplit

import pytest

from registry.client import transport
from registry.client.client import Client
from registry.digest import blake3_digest
from registry.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    InvalidNameError,
    InvalidPathError,
    ServerUnreachableError,
)

WHEN = "2026-01-02T03:04:05Z"
LIMITS = {"max_artifact_bytes": 1000, "max_artifacts": 10, "max_metadata_bytes": 1000, "max_page": 100}


class HostileService:
    """Answers as a Weighbridge service would, with the names that a test gives."""

    def __init__(self):
        self.model = "net"
        self.number = 1
        self.files = {"model.pt": b"the weights"}
        self.sha256 = None
        self.lost = set()
        self.more = {}

    def artifacts(self):
        return [
            {
                "path": path,
                "size_bytes": len(data),
                "sha256": self.sha256 or f"sha256:{hashlib.sha256(data).hexdigest()}",
                "blake3": blake3_digest(data),
            }
            for path, data in self.files.items()
        ]

    def answer(self, path):
        model = {"team": "vision", "name": self.model, "created_at": WHEN, "created_by": "x", "updated_at": WHEN}
        version = {"team": "vision", "model": self.model, "number": self.number, "kind": "opaque", "trust": "tensors"}
        version |= {"size_bytes": 1, "artifacts": self.artifacts(), "created_at": WHEN, "created_by": "x"}
        version |= {"annotations": {"updated_at": WHEN, "updated_by": "x"}}
        if "/artifacts/" in path:
            return self.files[path.partition("/artifacts/")[2]]
        answers = {
            "": {"version": "1", "registry_id": "r", "capabilities": [], "limits": LIMITS},
            "whoami": {"name": "x", "administrator": False},
            "teams/vision": {"name": "vision", "created_at": WHEN, "created_by": "x"},
            "models": {"items": [model], **self.more},
            f"models/vision/{self.model}/versions": {"items": [version]},
            f"models/vision/{self.model}/aliases": {"items": []},
        }
        return answers.get(path, version)


@pytest.fixture
def service():
    hostile = HostileService()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = hostile.answer(unquote(urlsplit(self.path).path).removeprefix("/api/v1").strip("/"))
            is_lost = any(urlsplit(self.path).path.endswith(f"/{each}") for each in hostile.lost)
            if is_lost:
                answer = {"code": "blob_missing", "detail": "Stored bytes are not there."}
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(500 if is_lost else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        hostile.url = f"http://127.0.0.1:{server.server_port}"
        yield hostile
        server.shutdown()
        thread.join()


@pytest.fixture
def export(service, tmp_path):
    def export():
        with Client(service.url, progress=False) as client:
            return client.export_team("vision", tmp_path / "jail" / "out")

    return export


def files(folder):
    return sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if not each.is_dir())


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"files": {"../../escaped": b"x"}}, InvalidPathError),
        ({"files": {"/etc/escaped": b"x"}}, InvalidPathError),
        ({"files": {"a\nb": b"x"}}, InvalidPathError),
        ({"model": "../escaped"}, InvalidNameError),
        ({"model": ".."}, InvalidNameError),
        ({"number": -1}, ServerUnreachableError),
        ({"sha256": "sha256:../../escaped"}, ServerUnreachableError),
    ],
)
def test_hostile_names_numbers_and_digests_are_refused_and_write_nothing(service, export, tmp_path, changes, error):
    for name, value in changes.items():
        setattr(service, name, value)
    with pytest.raises(error):
        export()
    assert files(tmp_path / "jail") in (["out/weighbridge.json"], [])


def test_files_that_the_service_lost_or_damaged_are_left_out_and_told(service, export, tmp_path):
    service.files = {"model.pt": b"the weights", "notes.txt": b"beside"}
    service.lost = {"model.pt"}
    exported = export()
    said = json.loads((tmp_path / "jail/out/net/1.json").read_text())["files"]
    assert {each["path"]: (each["file"], each["left_out"]) for each in said} == {
        "model.pt": (None, "Stored bytes are not there."),
        "notes.txt": ("net/1/notes.txt", None),
    }
    assert (exported.info.counts.files_left_out, type(exported.failure)) == (1, BlobNotFoundError)
    service.lost = set()
    assert (export().info.counts.files_left_out, export().failure) == (0, None)
    service.files, service.sha256 = {"other.pt": b"damaged"}, "sha256:" + "0" * 64
    assert isinstance(export().failure, DigestMismatchError)
    assert not (tmp_path / "jail/out/net/1/other.pt").exists()


@pytest.mark.parametrize("more", [{"cursor": "again"}, {"items": [], "cursor": "more"}])
def test_a_list_without_an_end_is_refused(service, export, more):
    service.more = more
    with pytest.raises(ServerUnreachableError, match="no end"):
        export()


def test_an_answer_without_an_end_is_refused(service, export, monkeypatch):
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 1000)
    service.more = {"note": "x" * 1000}
    with pytest.raises(ServerUnreachableError, match="more than 1000 bytes"):
        export()


def test_names_that_collide_are_all_kept(service, export, tmp_path):
    service.files = {"a": b"1", "A": b"2", "a/b": b"3", "model.json": b"4", "x" * 300: b"5"}
    exported = export()
    folder = tmp_path / "jail" / "out"
    assert exported.info.counts.files == 5
    said = json.loads((folder / "net/1.json").read_text())["files"]
    assert {each["path"]: (folder / each["file"]).read_bytes() for each in said} == service.files


def test_links_in_the_folder_are_not_followed(service, export, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    export()
    folder = tmp_path / "jail" / "out"
    (folder / "net").rename(tmp_path / "moved")
    (folder / "net").symlink_to(outside)
    with pytest.raises(InvalidPathError, match="link"):
        export()
    assert files(outside) == []
