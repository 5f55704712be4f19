"""Weight files are read in another process: `Scanner` is the service's side of `registry.formats.worker`."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import registry
from registry.errors import MalformedArtifactError, ScannerUnavailableError, error_from_problem
from registry.formats import worker
from registry.formats.inspection import Inspection
from registry.formats.source import ByteRange, ByteSource, check_ranges
from registry.formats.wire import inspection_from_json

_BOOT = "import sys; sys.path.append(sys.argv[1]); from registry.formats.worker import main; main()"
"""`-I -S` leaves only the standard library on the path: the folder that holds `registry` is added behind it."""

_START_SECONDS = 30
_PIECE_BYTES = 8 << 20
_MAX_FRAME_BYTES = 256 << 20
_MAX_READY_BYTES = 64 << 10
_END_SECONDS = 5
_DEATH_SECONDS = 0.2
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
"""What an interpreter may need to start; nothing else of our environment, which holds credentials, goes along."""

_GAVE_UP = "The reader gave up on the file: reading it takes more time or memory than any weight file needs."


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """What one scan may use.

    Attributes:
        wall_seconds: from start to end, waiting for the bytes included.
        cpu_seconds: of computing.
        memory_bytes: of address space; one scan of a very large pickle needs up to 2 GiB.
        concurrent: scans at a time; more wait.
    """

    wall_seconds: int = 180
    cpu_seconds: int = 60
    memory_bytes: int = 2 << 30
    concurrent: int = 4

    def of_one(self) -> dict[str, int]:
        """Return what the kernel shall hold one scan to."""
        return {
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": self.cpu_seconds,
            "memory_bytes": self.memory_bytes,
        }


class Scanner:
    """Reads weight files in other processes, several at a time if several threads ask.

    One warm process is started at the first scan and again when it died; each scan runs in a fork of it. A context
    manager that ends them all.
    """

    def __init__(self, limits: ScanLimits | None = None) -> None:
        self._limits = limits or ScanLimits()
        self._room = threading.BoundedSemaphore(self._limits.concurrent)
        self._lock = threading.Lock()
        self._warm: _WarmProcess | None = None
        self._closed = False

    def scan(self, source: ByteSource) -> Inspection:
        """Return what a weight file holds. What `source` raises comes through.

        Raises:
            MalformedArtifactError: it cannot be read strictly, or its reader crashed or exceeded a limit.
            UnsafeArtifactError: it breaks off after it mentioned something that does harm.
            ScannerUnavailableError: no process could be started.
        """
        with self._room:
            for _ in range(2):
                warm = self._process()
                try:
                    return self._scan(warm, source)
                except _ProcessDiedError:
                    self._give_up(warm)
        raise ScannerUnavailableError("The process that reads weight files dies: is the machine out of memory?")

    def check(self) -> None:
        """Return when a process is there to read files.

        Raises:
            ScannerUnavailableError: none could be started.
        """
        self._process()

    def confinement(self) -> dict[str, bool]:
        """Return which measures hold the processes that read files, as `registry.formats.confinement.probe` names them.

        Raises:
            ScannerUnavailableError: none could be started.
        """
        return dict(self._process().confinement)

    def close(self) -> None:
        """End all processes. Scans that are running fail."""
        with self._lock:
            self._closed = True
            if self._warm is not None:
                self._warm.end()
                self._warm = None

    def _process(self) -> "_WarmProcess":
        with self._lock:
            if self._closed:
                raise ScannerUnavailableError("The scanner is closed: the service is shutting down.")
            if self._warm is None or not self._warm.is_alive():
                if self._warm is not None:
                    self._warm.end()
                self._warm = _WarmProcess(self._limits)
            return self._warm

    def _give_up(self, warm: "_WarmProcess") -> None:
        """Use a process no more that nobody can talk to: one that is dying closes its ends before it counts as dead."""
        with self._lock:
            if self._warm is warm:
                self._warm = None
        warm.kill()

    def _scan(self, warm: "_WarmProcess", source: ByteSource) -> Inspection:
        limits = self._limits
        deadline = time.monotonic() + limits.wall_seconds
        job = {"size": source.size, **limits.of_one()}
        with warm.job() as connection:
            try:
                connection.settimeout(limits.wall_seconds)
                worker.send_frame(connection, worker.JOB, json.dumps(job).encode())
                letter, content = _serve(connection, source, deadline)
            except _SourceError as carried:
                raise carried.error from carried
            except (EOFError, OSError) as error:
                if warm.is_alive(patiently=True):
                    raise MalformedArtifactError(_GAVE_UP) from error
                raise _ProcessDiedError from error
        document = json.loads(content)
        if letter == worker.FAILURE:
            raise error_from_problem(document)
        return inspection_from_json(document)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _ProcessDiedError(Exception):
    """The warm process is gone, and the scan with it; the file is not to blame."""


class _SourceError(Exception):
    """Carries what the source raised past the handling of a broken connection, which may be an `OSError` as well."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _serve(connection: socket.socket, source: ByteSource, deadline: float) -> tuple[bytes, bytearray]:
    """Hand out the bytes that are asked for; return the letter and content of the last frame."""
    while True:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        letter, content = worker.receive_frame(connection, _MAX_FRAME_BYTES)
        if letter != worker.RANGES:
            return letter, content
        ranges = list(worker.RANGE.iter_unpack(content))
        try:
            check_ranges(ranges, source.size)
        except MalformedArtifactError as error:
            raise EOFError from error
        connection.sendall(worker.FRAME.pack(worker.DATA, sum(length for _, length in ranges)))
        for batch in _batches(ranges):
            try:
                pieces = source.read_many(batch)
            except Exception as error:
                raise _SourceError(error) from error
            connection.sendall(b"".join(pieces))


def _batches(ranges: Sequence[ByteRange]) -> Generator[list[ByteRange]]:
    """Yield the ranges in order, large ones cut, so that each batch holds at most 8 MiB."""
    batch: list[ByteRange] = []
    room = _PIECE_BYTES
    for start, length in ranges:
        offset, rest = start, length
        while rest > room:
            yield [*batch, (offset, room)]
            offset, rest = offset + room, rest - room
            batch, room = [], _PIECE_BYTES
        batch.append((offset, rest))
        room -= rest
    if batch:
        yield batch


class _WarmProcess:
    """The process that forks one reader a job.

    Attributes:
        confinement: which measures hold its forks.
    """

    def __init__(self, limits: ScanLimits) -> None:
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

    def _wait_until_ready(self, limits: ScanLimits) -> None:
        self._control.settimeout(_START_SECONDS)
        try:
            worker.send_frame(self._control, worker.JOB, json.dumps(limits.of_one()).encode())
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
                with contextlib.suppress(_ProcessDiedError):
                    self._order(worker.KILL, number, [])

    def _order(self, letter: bytes, number: int, descriptors: list[int]) -> None:
        order = worker.ORDER.pack(letter, number)
        try:
            with self._lock:
                socket.send_fds(self._control, [order], descriptors)
        except OSError as error:
            raise _ProcessDiedError from error

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
