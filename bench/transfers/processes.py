"""Processes of peers: waited for at their start, and stopped at the end of a block however it ends."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STOP_TIMEOUT_SECONDS = 20


@contextmanager
def stopped(process: subprocess.Popen[bytes] | subprocess.Popen[str], *, group: bool = False) -> Iterator[None]:
    """Stop a process when the block ends, with `group` all of its group, of which it is the first."""
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number) if group else process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_SECONDS)
                break
        if group:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def processor_seconds(pid: int) -> float:
    """Return the time that processors spent for a process and those below it, those that have ended, too.

    Of this very process its own time is counted alone: those that it started are told apart.
    """
    members = [pid] if pid == os.getpid() else [pid, *_below(pid)]
    return sum(_spent(member, with_ended=member != os.getpid()) for member in members) / os.sysconf("SC_CLK_TCK")


def _spent(pid: int, *, with_ended: bool) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, fields[11 : 15 if with_ended else 13]))


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, tasks.read_text().split()):
                found += [child, *_below(child)]
    return found


def wait_until_answered(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
    """Return when something answers there.

    Raises:
        RuntimeError: the process ended, or took too long; the message holds the end of its log.
    """
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own server on loopback
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"nothing answers at {url} (exit status {process.poll()}):\n{log.read_text()[-3000:]}")
