import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import safetensors.torch
import torch

from registry.errors import (
    BlobStoreUnavailableError,
    MalformedArtifactError,
    ScannerUnavailableError,
    UnsafeArtifactError,
)
from registry.formats.reader import read
from registry.formats.source import BytesSource, FileSource
from storage.scanner import ScanLimits, Scanner


@pytest.fixture
def scanner():
    with Scanner() as scanner:
        yield scanner


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {"a": torch.ones(2, 3), "b": torch.zeros(4)}, "epoch": 3, "loss": float("nan")}, path)
    return path


@pytest.fixture
def descendants():
    """Return a function that lists this process's children and theirs, without the servers that other tests share."""
    strangers = psutil.Process().children()

    def find():
        own = [each for each in psutil.Process().children() if each not in strangers]
        found = [*own, *(below for each in own for below in each.children(recursive=True))]
        return [each for each in found if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]

    return find


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def loop_forever(opcodes=29_000_000):
    """A pickle that is legal, small in memory, and slow to run."""
    return b"\x80\x02" + b"N0" * (opcodes // 2) + b"N."


class Failing:
    """A bucket that goes away in the middle."""

    size = 10_000

    def read_many(self, ranges):
        raise BlobStoreUnavailableError("The bucket is away.")


class Endless:
    """A bucket that answers too late."""

    size = 10_000

    def __init__(self):
        self.asked = threading.Event()

    def read_many(self, ranges):
        self.asked.set()
        time.sleep(1.5)
        return [b"\0" * length for _, length in ranges]


def test_a_scan_reports_what_reading_here_reports(scanner, checkpoint):
    with FileSource(checkpoint) as source:
        assert repr(scanner.scan(source)) == repr(read(source).inspection)


def test_a_file_that_cannot_be_read_gives_the_readers_own_error(scanner):
    with pytest.raises(MalformedArtifactError, match="text file"):
        scanner.scan(BytesSource(b"hello\n"))
    with pytest.raises(UnsafeArtifactError, match=r"os\.system") as caught:
        scanner.scan(BytesSource(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R"))
    assert "os.system" in caught.value.extra["globals"]


def test_large_and_many_ranges_arrive_whole(scanner):
    text = {f"layer.{number}": torch.full((1,), number) for number in range(2000)}
    data = safetensors.torch.save(text, {"note": "x" * 9_000_000})
    inspection = scanner.scan(BytesSource(data))
    assert inspection.file_metadata == {"note": "x" * 9_000_000}
    assert repr(inspection) == repr(read(BytesSource(data)).inspection)


def test_what_the_source_raises_comes_through(scanner, checkpoint):
    with pytest.raises(BlobStoreUnavailableError, match="away"):
        scanner.scan(Failing())
    with FileSource(checkpoint) as source:
        assert scanner.scan(source).kind == "checkpoint"


def test_a_file_that_takes_too_long_is_malformed_and_its_reader_is_gone(checkpoint, descendants):
    with Scanner(ScanLimits(wall_seconds=1)) as scanner:
        with pytest.raises(MalformedArtifactError, match="gave up"):
            scanner.scan(BytesSource(loop_forever()))
        wait_until(lambda: len(descendants()) == 1)
        with FileSource(checkpoint) as source:
            assert scanner.scan(source).kind == "checkpoint"


def test_a_source_that_takes_too_long_ends_the_scan():
    source = Endless()
    with Scanner(ScanLimits(wall_seconds=1)) as scanner, pytest.raises(MalformedArtifactError, match="gave up"):
        scanner.scan(source)
    assert source.asked.is_set()


def test_computing_time_is_limited():
    with Scanner(ScanLimits(cpu_seconds=1)) as scanner, pytest.raises(MalformedArtifactError, match="gave up"):
        scanner.scan(BytesSource(loop_forever()))


def test_memory_is_limited():
    data = pickle.dumps(["x" * 50_000_000], protocol=2)
    with Scanner(ScanLimits(memory_bytes=100 << 20)) as scanner, pytest.raises(MalformedArtifactError, match="memory"):
        scanner.scan(BytesSource(data))


def test_many_threads_scan_at_once(scanner, checkpoint):
    def scan(_):
        with FileSource(checkpoint) as source:
            return scanner.scan(source)

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(scan, range(64)))
    assert len({repr(each) for each in results}) == 1


def test_a_reader_that_crashes_makes_the_file_malformed(scanner, start_warm, descendants):
    (warm,) = start_warm(scanner)
    source = Endless()

    def kill_the_fork():
        assert source.asked.wait(10)
        for child in warm.children():
            child.send_signal(signal.SIGSEGV)

    killer = threading.Thread(target=kill_the_fork)
    killer.start()
    with pytest.raises(MalformedArtifactError, match="gave up"):
        scanner.scan(source)
    killer.join()
    assert descendants() == [warm]


def test_an_empty_file_is_told_however_late_its_bytes_are_handed_out(scanner):
    class Late:
        size = 0

        def read_many(self, ranges):
            time.sleep(0.3)  # the reader, which misses nothing, has answered and is gone by then
            return [b"" for _ in ranges]

    with pytest.raises(MalformedArtifactError, match="empty"):
        scanner.scan(Late())


def test_a_fault_of_the_reader_is_told_and_logged(monkeypatch, caplog, checkpoint):
    program = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from registry.formats import worker\n"
        "def read(source): raise LookupError('no such codec')\n"
        "worker.read = read\n"
        "worker.main()\n"
    )
    monkeypatch.setattr("storage.warm_process._BOOT", program)
    with Scanner() as scanner, FileSource(checkpoint) as source, pytest.raises(MalformedArtifactError, match="report"):
        scanner.scan(source)
    (record,) = caplog.records
    assert "LookupError('no such codec')" in record.getMessage()
    assert "registry.formats.worker:" in record.getMessage()


@pytest.fixture
def start_warm(descendants):
    """Return a function that lets a scanner start its warm process, and returns all processes that are its."""

    def start(scanner):
        with pytest.raises(MalformedArtifactError):
            scanner.scan(BytesSource(b"hello"))
        wait_until(lambda: len(descendants()) == 1)
        return descendants()

    return start


def test_a_warm_process_that_was_killed_is_started_again(scanner, checkpoint, start_warm):
    (warm,) = start_warm(scanner)
    warm.kill()
    with FileSource(checkpoint) as source:
        assert scanner.scan(source).kind == "checkpoint"


def test_a_warm_process_that_is_out_of_reach_before_it_is_dead_is_replaced(
    scanner, checkpoint, start_warm, descendants
):
    before = {each.fd for each in psutil.Process().net_connections("unix")}
    (warm,) = start_warm(scanner)
    (control,) = {each.fd for each in psutil.Process().net_connections("unix")} - before
    warm.suspend()  # as one that the kernel has begun to end: it is there, and hears nothing
    with socket.socket(fileno=os.dup(control)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
    with FileSource(checkpoint) as source:
        assert scanner.scan(source).kind == "checkpoint"
    assert warm not in descendants()


def test_a_warm_process_that_dies_during_a_scan_does_not_blame_the_file(scanner, checkpoint, start_warm):
    (warm,) = start_warm(scanner)
    killed = threading.Event()

    class Killing:
        def __init__(self, source):
            self.size = source.size
            self.source = source

        def read_many(self, ranges):
            if not killed.is_set():
                killed.set()
                for each in (warm, *warm.children()):
                    each.kill()
            return self.source.read_many(ranges)

    with FileSource(checkpoint) as source:
        assert scanner.scan(Killing(source)).kind == "checkpoint"


def test_closing_ends_every_process(checkpoint, start_warm, descendants):
    scanner = Scanner()
    start_warm(scanner)
    scanner.close()
    assert descendants() == []
    with pytest.raises(ScannerUnavailableError, match="closed"), FileSource(checkpoint) as source:
        scanner.scan(source)


def test_a_service_that_is_killed_leaves_no_process():
    program = (
        "import time\n"
        "from storage.scanner import Scanner\n"
        "from registry.formats.source import BytesSource\n"
        "try: scanner = Scanner(); scanner.scan(BytesSource(b'hello'))\n"
        "except Exception: print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout.readline() == "ready\n"
        warm = psutil.Process(service.pid).children(recursive=True)
        assert warm
        service.kill()
    wait_until(lambda: not any(each.is_running() for each in warm))


def test_an_interpreter_that_does_not_start_is_a_named_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Scanner() as scanner, pytest.raises(ScannerUnavailableError, match="cannot be started"):
        scanner.scan(BytesSource(b"hello"))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Scanner() as scanner, pytest.raises(ScannerUnavailableError, match="code 1"):
        scanner.scan(BytesSource(b"hello"))


def test_readers_see_no_credentials_and_may_open_nothing(monkeypatch, start_warm):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    with Scanner() as scanner:
        (warm,) = start_warm(scanner)
        assert "AWS_SECRET_ACCESS_KEY" not in warm.environ()
        source = Endless()
        seen = {}

        def look():
            assert source.asked.wait(10)
            (fork,) = warm.children()
            seen["files"] = sorted(each.name for each in Path(f"/proc/{fork.pid}/fd").iterdir())
            limits = Path(f"/proc/{fork.pid}/limits").read_text().splitlines()
            seen["limit"] = next(line.split()[3:5] for line in limits if line.startswith("Max open files"))
            seen["cwd"] = fork.cwd()
            seen["network"] = Path(f"/proc/{fork.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
            seen["root"] = 0 in fork.uids()

        looker = threading.Thread(target=look)
        looker.start()
        with pytest.raises(MalformedArtifactError):
            scanner.scan(source)
        looker.join()
        held = scanner.confinement()
    assert seen.pop("network") == held["network"]
    assert seen == {"files": ["0", "1", "2", "3"], "limit": ["4", "4"], "cwd": "/", "root": False}


def test_what_holds_its_readers_is_found_out_by_trying(scanner):
    held = scanner.confinement()
    assert set(held) >= {"memory", "network", "processes", "unprivileged"}
    allowed_to_fail = {"network"}  # not every container may make a network namespace
    assert [name for name, holds in held.items() if not holds and name not in allowed_to_fail] == []
