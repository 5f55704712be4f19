"""A real server process: curl, connections that break or stall, many pushes at once, and the way it stops."""

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from embedded import make_weights
from support.service import free_port, running

from api.app import create_app
from api.settings import Settings
from storage.metadata.migrate import upgrade

SERVE = [sys.executable, "-m", "api", "serve"]
WAIT_SECONDS = 20


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    return {**kept, **{f"WEIGHBRIDGE_{name.upper()}": value for name, value in settings.items()}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def narrow(folder):
    """A service with one thread and one database connection of each kind: whoever holds one stops everybody."""
    settings = environment(uploads="1", verifications="1", database_pool="1")
    with running(folder, SERVE, settings) as service:
        yield service


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=60, check=False)


def get(url: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - our own service on loopback
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class Push:
    """A push over a connection of its own, that sends what it is told when it is told."""

    def __init__(self, url: str, path: str, size: int) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=WAIT_SECONDS)
        self.connection.putrequest("PUT", path)
        self.connection.putheader("Content-Length", str(size))
        self.connection.endheaders()

    def send(self, data: bytes) -> None:
        self.connection.send(data)

    def answer(self) -> tuple[int, dict]:
        answer = self.connection.getresponse()
        return answer.status, json.load(answer)

    def break_off(self) -> None:
        self.connection.close()


def path_of(name: str) -> str:
    return f"/api/v1/models/vision/{name}"


def wait_until(true) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_clean(folder: Path) -> bool:
    """Return whether no push has left a temporary file or an unfinished row."""
    with closing(sqlite3.connect(folder / "data" / "catalog.sqlite")) as rows:
        counts = "SELECT (SELECT count(*) FROM write_intents), (SELECT count(*) FROM doomed)"
        unfinished = rows.execute(counts).fetchone()
        objects = rows.execute("SELECT count(*) FROM objects").fetchone()[0]
    blobs = folder / "data" / "blobs"
    files = [path for path in (blobs / "objects").rglob("*") if path.is_file()]
    return unfinished == (0, 0) and len(files) == objects and not list((blobs / "tmp").iterdir())


def test_curl_pushes_a_body_and_a_form_and_resumes_a_download(narrow, tmp_path):
    model = tmp_path / "model.pt"
    model.write_bytes(make_weights())
    (tmp_path / "README.md").write_text("a net")
    url = f"{narrow.url}{path_of('curled')}"

    first = json.loads(curl("-T", str(model), f"{url}/upload/model.pt?metric.top1=0.8&alias=prod").stdout)
    form = ["-F", f"file=@{model}", "-F", "tag.a=b", "-F", f"file=@{tmp_path}/README.md;filename=docs/README.md"]
    second = json.loads(curl(*form, f"{url}/versions").stdout)

    assert (first["number"], first["aliases"]) == (1, ["prod"])
    assert [each["path"] for each in second["artifacts"]] == ["model.pt", "docs/README.md"]
    half = tmp_path / "half.pt"
    half.write_bytes(model.read_bytes()[:1000])
    for _ in range(2):  # the second time there is nothing left to fetch
        resumed = curl("-C", "-", "-o", str(half), f"{url}/versions/prod/artifacts/model.pt")
        assert (resumed.returncode, half.read_bytes()) == (0, model.read_bytes())


def test_a_refusal_reaches_a_client_that_is_still_sending(narrow, tmp_path):
    large = tmp_path / "large.pt"
    large.write_bytes(bytes(20 << 20))

    refused = curl("-T", str(large), "-H", "Expect:", f"{narrow.url}/api/v1/models/api/net/upload/model.pt")

    assert json.loads(refused.stdout)["code"] == "invalid_name"


@pytest.mark.parametrize("sent", [0, 1000, 6 << 20])
def test_a_body_that_breaks_off_leaves_nothing(narrow, folder, sent):
    push = Push(narrow.url, path_of("broken") + "/upload/model.pt", 8 << 20)
    push.send(bytes(sent))
    push.break_off()

    wait_until(lambda: is_clean(folder))
    assert get(narrow.url + path_of("broken"))[0] == 404
    assert get(narrow.url + "/readyz")[0] == 200


def test_a_chunked_body_that_breaks_off_leaves_nothing(narrow, folder):
    with socket.create_connection((urlsplit(narrow.url).hostname, urlsplit(narrow.url).port)) as raw:
        head = (
            f"PUT {path_of('broken')}/upload/model.pt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        raw.sendall(head.encode() + b"5\r\nhello\r\n")

    wait_until(lambda: is_clean(folder))
    assert get(narrow.url + path_of("broken"))[0] == 404


def test_an_upload_that_stalls_is_given_up(tmp_path):
    with in_thread(Settings(data=tmp_path / "data", idle_seconds=1)) as url:
        push = Push(url, path_of("stalled") + "/upload/model.pt", 1000)
        push.send(bytes(10))

        status, problem = push.answer()

        push.break_off()
        assert (status, problem["code"]) == (400, "incomplete_upload")
        assert is_clean(tmp_path)


def test_uploads_that_wait_for_their_client_hold_nothing_that_others_need(narrow):
    content = make_weights(1)
    slow = [Push(narrow.url, path_of("slow") + "/upload/model.pt", len(content)) for _ in range(20)]
    for each in slow:
        each.send(content[:-10])

    quick = Push(narrow.url, path_of("quick") + "/upload/model.pt", len(content))
    quick.send(content)
    assert quick.answer()[0] == 201
    assert get(narrow.url + path_of("quick") + "/versions/1")[0] == 200

    for each in slow:
        each.send(content[-10:])
    numbers = sorted(each.answer()[1]["number"] for each in slow)
    assert numbers == list(range(1, 21))
    for each in (*slow, quick):
        each.break_off()


@contextmanager
def in_thread(settings: Settings) -> Iterator[str]:
    """Serve on a real socket from a thread of this process, which starts faster; give the URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(WAIT_SECONDS)


@pytest.fixture(params=["sqlite", "postgresql"])
def roomy(request, tmp_path):
    settings = Settings(data=tmp_path / "data")
    if request.param == "postgresql":
        settings = settings.model_copy(update={"database_url": request.getfixturevalue("postgres_database")})
        upgrade(settings.catalog_url)
    with in_thread(settings) as url:
        yield url


def test_64_pushes_at_once_get_64_contiguous_numbers(roomy):
    together = threading.Barrier(64)

    def push(number: int) -> tuple[int, dict]:
        content = make_weights(number)
        sending = Push(roomy, path_of("crowded") + "/upload/model.pt", len(content))
        together.wait(WAIT_SECONDS)
        sending.send(content)
        answer = sending.answer()
        sending.break_off()
        return answer

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(push, range(64)))

    assert {status for status, _ in answers} == {201}
    assert sorted(version["number"] for _, version in answers) == list(range(1, 65))


def test_a_service_that_is_told_to_stop_finishes_what_it_began(tmp_path):
    content = make_weights()
    log = tmp_path / "log"
    port = free_port()
    with log.open("wb") as output:
        settings = environment(data=str(tmp_path / "data"), port=str(port))
        process = subprocess.Popen(SERVE, env=settings, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: b'"url"' in log.read_bytes())
        push = Push(url, path_of("drained") + "/upload/model.pt", len(content))
        push.send(content[:-10])
        wait_until(lambda: list((tmp_path / "data" / "blobs" / "tmp").iterdir()))

        process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(f"{url}/readyz")[0] == 503)
        push.send(content[-10:])

        assert push.answer()[0] == 201
        push.break_off()
        assert process.wait(WAIT_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("settings", "arguments", "said"),
    [
        ({}, ["--host", "0.0.0.0"], "WEIGHBRIDGE_TOKEN"),  # noqa: S104 - refused
        ({"blobs_url": "ftp://host"}, [], "ftp"),
    ],
    ids=["open", "blobs"],
)
def test_what_would_be_unsafe_or_cannot_work_is_not_started(tmp_path, settings, arguments, said):
    given = {"data": str(tmp_path / "data"), **settings}

    ran = subprocess.run(
        [*SERVE, *arguments], env=environment(**given), capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_port_that_is_taken_is_said_in_a_sentence(narrow, tmp_path):
    port = str(urlsplit(narrow.url).port)

    ran = subprocess.run(
        [*SERVE, "--port", port, "--data", str(tmp_path / "data")],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ran.returncode == 1
    assert "Choose another" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_several_processes_serve_one_postgresql(postgres_database, tmp_path):
    settings = environment(database_url=postgres_database, workers="2")
    subprocess.run([sys.executable, "-m", "api", "migrate"], env=settings, check=True, timeout=60, capture_output=True)
    content = make_weights()
    with running(tmp_path, SERVE, settings) as service:
        pushes = [Push(service.url, path_of("shared") + "/upload/model.pt", len(content)) for _ in range(4)]
        for push in pushes:
            push.send(content)
        answers = [push.answer() for push in pushes]
        for push in pushes:
            push.break_off()

    assert sorted(version["number"] for _, version in answers) == [1, 2, 3, 4]
