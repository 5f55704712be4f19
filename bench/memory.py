"""How much anonymous memory a process holds, watched while something runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

INTERVAL_SECONDS = 0.02
KIB = 1024


@dataclass(slots=True)
class Watched:
    """Anonymous memory in bytes: when the watch began, and the most that was seen since."""

    before: int
    most: int

    @property
    def moved(self) -> int:
        """How far it rose, in bytes."""
        return self.most - self.before


def anonymous_bytes(pid: int) -> int:
    """Return RssAnon of a process and what its children hold beside, in bytes (Linux).

    Of pages that forks share with whom they were forked from each counts its share, so that all count them once. A
    child with the same command line is in the process's own memory until it runs another program (vfork).
    """
    command = _read(Path(f"/proc/{pid}/cmdline"))
    others = [each for each in _children(pid) if _read(Path(f"/proc/{each}/cmdline")) != command]
    return _find(pid, "status", "RssAnon:") + sum(_find(each, "smaps_rollup", "Pss_Anon:") for each in others)


@contextmanager
def watching(pid: int) -> Iterator[Watched]:
    """Sample the process 50 times a second while the block runs."""
    start = anonymous_bytes(pid)
    watched = Watched(start, start)
    ended = threading.Event()

    def sample() -> None:
        while not ended.is_set():
            watched.most = max(watched.most, anonymous_bytes(pid))
            time.sleep(INTERVAL_SECONDS)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()


def _find(pid: int, file: str, name: str) -> int:
    for line in _read(Path(f"/proc/{pid}/{file}")).splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * KIB
    return 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, _read(tasks).split()):
            found += [child, *_children(child)]
    return found


def _read(path: Path) -> str:
    """Return the text of a file of /proc, nothing when its process has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
