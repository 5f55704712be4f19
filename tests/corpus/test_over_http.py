"""The whole corpus pushed to a real service: the same answers, and nothing left of what was refused."""

import sqlite3
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import urllib3
from support.service import running

from corpus.harmless import harmless_cases
from corpus.hostile import hostile_cases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

REFUSALS = {"unsafe": {"unsafe_artifact"}, "malformed_artifact": {"malformed_artifact", "empty_artifact"}}
MOST_PEAK_BYTES = 150 << 20
WORK = ("write_intents", "doomed", "upload_pins")


@pytest.fixture
def service(tmp_path):
    with running(tmp_path, [sys.executable, "-m", "api", "serve"]) as service:
        yield service, tmp_path


def blob_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "data" / "blobs" / "objects").rglob("*") if path.is_file()]


def rows(folder: Path) -> dict[str, int]:
    (database,) = [path for path in (folder / "data").iterdir() if path.suffix in {".db", ".sqlite", ".sqlite3"}]
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608 - names out of the schema
            for name in tables
        }


def reading_processes(pid: int) -> list[int]:
    """Return the process ids of a service and of everything that it started."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)  # none: it has ended


def test_every_file_gets_its_answer_and_leaves_nothing_behind(service, capsys):
    running_service, folder = service
    marker = folder / "marker"
    http = urllib3.PoolManager()
    seconds, answers, wrong = [], Counter(), []
    stored = 0
    for number, case in enumerate([*harmless_cases(), *hostile_cases()]):
        data = case.build(str(marker))
        url = f"{running_service.url}/api/v1/models/corpus/file-{number}/upload/model.pt"
        started = time.perf_counter()
        answer = http.request("PUT", url, body=data, retries=False)
        seconds.append(time.perf_counter() - started)
        problem = answer.json()
        answers[answer.status, problem.get("code", "stored")] += 1
        stored += answer.status == 201
        if case.verdict in REFUSALS:
            right = answer.status == 422 and problem["code"] in REFUSALS[case.verdict]
        else:
            right = answer.status == 201 and problem["trust"] == case.verdict
        if not right:
            wrong.append((case.name, case.verdict, answer.status, str(problem)[:300]))
    peaks = {pid: peak_bytes(pid) for pid in reading_processes(running_service.pid)}
    counts = rows(folder)
    with capsys.disabled():
        print(f"\n{len(seconds)} files over HTTP: {dict(answers)}")  # noqa: T201 - figures for people
        print(  # noqa: T201 - figures for people
            f"median {1000 * statistics.median(seconds):.1f} ms, slowest {1000 * max(seconds):.0f} ms, "
            f"peak memory {', '.join(f'{peak >> 20} MiB' for peak in peaks.values())}"
        )
    assert wrong == []
    assert not marker.exists()
    assert counts["versions"] == stored
    assert len(blob_files(folder)) == counts["objects"]
    assert {name: counts.get(name, 0) for name in WORK} == dict.fromkeys(WORK, 0)
    assert http.request("GET", f"{running_service.url}/readyz").status == 200
