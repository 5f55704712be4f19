"""Weight files are read in another process: `Scanner` is the service's side of `registry.formats.worker`."""

import json
import logging
import socket
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from registry.errors import MalformedArtifactError, ScannerUnavailableError, error_from_problem
from registry.formats import worker
from registry.formats.inspection import Inspection
from registry.formats.source import ByteRange, ByteSource, check_ranges
from registry.formats.wire import inspection_from_json
from storage.warm_process import ProcessDiedError, WarmProcess

log = logging.getLogger("weighbridge.scanner")

_PIECE_BYTES = 8 << 20
_MAX_FRAME_BYTES = 256 << 20
_GAVE_UP = "The reader gave up on the file: reading it takes more time or memory than any weight file needs."
_FAILED = "The reader failed on the file; the service's log says where. Please report it."
_MAX_CRASH_BYTES = 4096


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
        self._warm: WarmProcess | None = None
        self._closed = False

    def scan(self, source: ByteSource) -> Inspection:
        """Return what a weight file holds. What `source` raises comes through.

        Raises:
            MalformedArtifactError: it cannot be read strictly, or its reader failed or exceeded a limit.
            UnsafeArtifactError: it breaks off after it mentioned something that does harm.
            ScannerUnavailableError: no process could be started.
        """
        with self._room:
            for _ in range(2):
                warm = self._process()
                try:
                    return self._scan(warm, source)
                except ProcessDiedError:
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

    def _process(self) -> WarmProcess:
        with self._lock:
            if self._closed:
                raise ScannerUnavailableError("The scanner is closed: the service is shutting down.")
            if self._warm is None or not self._warm.is_alive():
                if self._warm is not None:
                    self._warm.end()
                self._warm = WarmProcess(self._limits.of_one())
            return self._warm

    def _give_up(self, warm: WarmProcess) -> None:
        """Use a process no more that nobody can talk to: one that is dying closes its ends before it counts as dead."""
        with self._lock:
            if self._warm is warm:
                self._warm = None
        warm.kill()

    def _scan(self, warm: WarmProcess, source: ByteSource) -> Inspection:
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
                raise ProcessDiedError from error
        if letter == worker.CRASH:
            log.error("a fault of the reader: %s", content[:_MAX_CRASH_BYTES].decode(errors="backslashreplace"))
            raise MalformedArtifactError(_FAILED)
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
            if data := b"".join(pieces):  # who waits for nothing more may have answered, and be gone
                connection.sendall(data)


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
