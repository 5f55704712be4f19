"""The warm process that forks a reader for every weight file, as the service sees it: `registry.formats.worker`."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from pathlib import Path

import registry
from registry.errors import ScannerUnavailableError
from registry.formats import worker

_BOOT = "import sys; sys.path.append(sys.argv[1]); from registry.formats.worker import main; main()"
"""`-I -S` leaves only the standard library on the path: the folder that holds `registry` is added behind it."""

_START_SECONDS = 30
_MAX_READY_BYTES = 64 << 10
_END_SECONDS = 5
_DEATH_SECONDS = 0.2
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
"""What an interpreter may need to start; nothing else of our environment, which holds credentials, goes along."""


class ProcessDiedError(Exception):
    """The warm process is gone, and the scan with it; the file is not to blame."""


class WarmProcess:
    """The process that forks one reader a job.

    Attributes:
        confinement: which measures hold its forks.

    Args:
        limits: what the kernel holds a fork to, as `registry.formats.confinement.confine` takes them.

    Raises:
        ScannerUnavailableError: it does not start.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.confinement: dict[str, bool] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        folder = str(Path(registry.__file__).parent.parent)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and a constant program
                [sys.executable, "-I", "-S", "-c", _BOOT, folder],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                start_new_session=True,
            )
        except OSError as error:
            self._control.close()
            raise ScannerUnavailableError(f"The process that reads weight files cannot be started: {error}.") from error
        finally:
            theirs.close()
        self._wait_until_ready(limits)

    def _wait_until_ready(self, limits: Mapping[str, int]) -> None:
        self._control.settimeout(_START_SECONDS)
        try:
            worker.send_frame(self._control, worker.JOB, json.dumps(dict(limits)).encode())
            self.confinement = json.loads(worker.receive_frame(self._control, _MAX_READY_BYTES)[1])
        except (EOFError, OSError) as error:
            self.end()
            raise ScannerUnavailableError(
                f"The process that reads weight files ended at its start with code {self._process.returncode}; "
                "its standard error says why."
            ) from error
        self._control.settimeout(None)

    @contextlib.contextmanager
    def job(self) -> Generator[socket.socket]:
        """Start a fork and give the socket to talk to it; at the end of the block the fork is gone."""
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._order(worker.RUN, number, [theirs.fileno()])
            try:
                yield ours
            finally:
                with contextlib.suppress(ProcessDiedError):
                    self._order(worker.KILL, number, [])

    def _order(self, letter: bytes, number: int, descriptors: list[int]) -> None:
        order = worker.ORDER.pack(letter, number)
        try:
            with self._lock:
                socket.send_fds(self._control, [order], descriptors)
        except OSError as error:
            raise ProcessDiedError from error

    def is_alive(self, *, patiently: bool = False) -> bool:
        """Return whether the process runs; `patiently` when something suggests that it just died."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEATH_SECONDS if patiently else 0)
        return self._process.returncode is None

    def end(self) -> None:
        """End the process and its forks."""
        self._hang_up()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        with self._lock:  # or an order of another thread might go to whatever has the number next
            self._control.close()
