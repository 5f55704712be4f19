"""One download of a file per machine: who holds its lock fetches, others watch, and go on where a dead holder stopped.

    <cache>/v1/locks/<digest>     locked by who fetches; says how many bytes there are; its time is the heartbeat

Locks only save traffic. Where there are none, or where they do not hold (some network file systems), everybody fetches
into a folder of their own, and the first rename wins.
"""

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BEAT_SECONDS = 1.0
STALE_SECONDS = 60.0
"""A holder without a heartbeat for so long is not waited for: its machine sleeps, or lost the file system."""
LOOK_SECONDS = 0.1
_DIGITS = 20
"""Of the number of bytes in a lock file."""


@dataclass(slots=True)
class _Watched:
    """The heartbeat of a holder, and since when it is the same, by this machine's own clock."""

    beat: int | None = None
    since: float = 0.0

    def is_stale(self, beat: int) -> bool:
        now = time.monotonic()
        if beat != self.beat:
            self.beat, self.since = beat, now
        return now - self.since > STALE_SECONDS


@contextmanager
def holding(
    lock: Path, is_done: Callable[[], bool], watch: Callable[[int], None]
) -> Generator["Callable[[int], None] | None"]:
    """Wait until nobody else holds the lock, or what they do is done, and hold it for the block.

    Yields what tells others how many bytes there are; None where nothing is held: it is done, the holder is not to be
    waited for any more, or there are no locks here.

    Args:
        lock: the file.
        is_done: whether there is nothing left to do.
        watch: is told how many bytes the holder has.
    """
    held = _wait(lock, is_done, watch)
    if held is None:
        yield None
        return
    try:
        yield lambda size_bytes: _tell(held, size_bytes)
    finally:
        with suppress(OSError):
            lock.unlink()  # while it is held: whoever waits with this file looks whether it still has its name
        os.close(held)


@contextmanager
def beating(beat: Callable[[], None]) -> Generator[None]:
    """Call `beat` every second while the block runs, whatever it waits for."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(BEAT_SECONDS):
            beat()

    thread = threading.Thread(target=run, name="weighbridge-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _wait(lock: Path, is_done: Callable[[], bool], watch: Callable[[int], None]) -> int | None:
    watched = _Watched()
    while True:
        try:
            held = _try(lock)
        except OSError:  # no locks here, or no folder to write to, as the download will say
            return None
        if held is not None or is_done():
            return held
        beat, size_bytes = _look(lock)
        if watched.is_stale(beat):
            return None
        watch(size_bytes)
        time.sleep(LOOK_SECONDS)


def _try(lock: Path) -> int | None:
    """Return a descriptor that holds the lock, None when somebody else does.

    Raises:
        OSError: there are no locks here.
    """
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError("this system has no such locks") from error
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), lock.stat()):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder before us has just removed it


def _tell(descriptor: int, size_bytes: int) -> None:
    with suppress(OSError):
        os.pwrite(descriptor, b"%020d" % size_bytes, 0)
        os.utime(descriptor)


def _look(lock: Path) -> tuple[int, int]:
    """Return the time of the last heartbeat in nanoseconds, and the number of bytes."""
    try:
        said = lock.read_bytes()[:_DIGITS]
        return lock.stat().st_mtime_ns, int(said) if said.isdigit() else 0
    except OSError:
        return -1, 0
