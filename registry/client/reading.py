"""What is missing of an artifact, as runs, a few at a time, asked for again until all of it is there."""

import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from registry.client.answers import Incoming
from registry.client.bucket import BucketRefusedError, BucketUnreachableError, refused
from registry.client.connection import Connection
from registry.client.landing import Landing
from registry.client.packing import PartialPack
from registry.client.partial import Partial
from registry.client.progress import Bar
from registry.client.several import Batch, batch, is_multipart, split
from registry.client.transport import API, READ_TIMEOUT_SECONDS, back_off_seconds, path_below_api, route
from registry.errors import ServerUnreachableError, UnavailableError, WeighbridgeError
from registry.formats.source import ByteRange
from registry.reads import MAX_RUN_BYTES, ArtifactRanges, ReadPlan, ReadRun, ReadsQuery
from registry.schema import ArtifactInfo, VersionInfo

CONNECTIONS = 4
"""Of one download: enough to fill a line that gives each connection its share, few enough for a small service."""
NOTE_BYTES = 1 << 20
RUN_BYTES = MAX_RUN_BYTES
PLAN_RUNS = 64
"""Asked for at once, 4 GiB: at 16 MB/s they are there before the URLs end."""
PLAN_SECONDS = 240.0
"""After which nothing new is begun by a plan: its URLs live for 300."""
SMALL_BYTES = 1 << 20
"""What is not more than this is asked of the service itself, without asking where it is first."""
MAX_FAILURES = 5
"""In a row, each without `PROGRESS_BYTES` of progress, before a download gives up."""
MAX_REFUSALS = 2
"""Of the bucket in a row; then the service is asked for the bytes themselves."""
PROGRESS_BYTES = 1 << 20


class Shown:
    """What the bar shows of one artifact: counted by ourselves, or said by somebody else who fetches it."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._lock = threading.Lock()
        self._size_bytes = 0

    def reach(self, size_bytes: int) -> None:
        """Show that so many bytes are there."""
        with self._lock:
            if size_bytes != self._size_bytes:
                self._bar.advance(size_bytes - self._size_bytes)
                self._size_bytes = size_bytes


class Download:
    """One artifact on its way into a partial file."""

    def __init__(
        self,
        connection: Connection,
        version: VersionInfo,
        artifact: ArtifactInfo,
        partial: Partial | PartialPack,
        shown: Shown,
    ) -> None:
        self._transport = connection.transport
        self._buckets = connection.buckets
        self._place = route("models", version.team, version.model, "versions", version.number)
        self._path = f"{self._place}/artifacts/{quote(artifact.path)}?direct=false"
        self._artifact = artifact
        self._partial = partial
        self._shown = shown
        self._refusals = 0
        self._takes_several = True
        self._is_ended = threading.Event()
        self._incoming: set[Incoming] = set()

    def run(self) -> Path:
        """Bring what is missing, and return the file."""
        self._complete()
        while (file := self._partial.finish()) is None:
            self._complete()
        return file

    def _complete(self) -> None:
        failures = 0
        while missing := self._partial.missing():
            before = self._partial.size_bytes
            self._shown.reach(before)
            try:
                batches, others = batch(missing) if self._takes_several else ([], missing)
                failure = self._fetch([*batches, *(self._plan(others) if others else ())])
            except (ServerUnreachableError, UnavailableError) as error:
                failure = error
            self._shown.reach(self._partial.size_bytes)
            failures = 0 if self._partial.size_bytes - before >= PROGRESS_BYTES else failures + 1
            if failure is None or isinstance(failure, BucketUnreachableError):
                continue
            if failures >= MAX_FAILURES:
                raise refused(failure) if isinstance(failure, BucketRefusedError) else failure
            time.sleep(back_off_seconds(failures + 1))

    def _plan(self, missing: Sequence[ByteRange]) -> list[ReadRun]:
        """Ask where the first of the missing bytes are."""
        artifact = self._artifact
        if sum(length for _, length in missing) <= SMALL_BYTES:
            url = f"{API}{self._path}"
            return [
                ReadRun(path=artifact.path, offset=offset, length=length, url=url, headers=_range(offset, length))
                for offset, length in missing
            ]
        wanted = _first(missing)
        direct = self._buckets.reachable and self._refusals < MAX_REFUSALS
        query = ReadsQuery(artifacts=[ArtifactRanges(path=artifact.path, ranges=wanted)], direct=direct)
        plan = self._transport.call(ReadPlan, "POST", f"{self._place}/reads", body=query)
        _check(plan, artifact.path, wanted, self._transport.url)
        return plan.runs

    def _fetch(self, runs: Sequence[ReadRun | Batch]) -> Exception | None:
        """Fetch runs; return why one did not come, once those that were begun have ended."""
        until = time.monotonic() + PLAN_SECONDS
        waiting, lock = iter(runs), threading.Lock()
        failures: list[Exception] = []

        def work() -> None:
            with Landing() as landing:
                while not failures and time.monotonic() < until:
                    with lock:
                        run = next(waiting, None)
                    if run is None:
                        return
                    try:
                        if isinstance(run, Batch):
                            self._receive_several(run)
                        else:
                            self._receive(run, landing)
                    except (WeighbridgeError, BucketUnreachableError, BucketRefusedError) as error:
                        failures.append(error)

        if len(runs) == 1:
            work()
        else:
            with ThreadPoolExecutor(min(CONNECTIONS, len(runs)), "weighbridge-read") as pool:
                try:
                    for future in [pool.submit(work) for _ in range(min(CONNECTIONS, len(runs)))]:
                        future.result()
                except BaseException:
                    self._end()  # somebody interrupts
                    raise
        return self._judge(failures)

    def _end(self) -> None:
        self._is_ended.set()
        for each in list(self._incoming):
            each.abort()

    def _judge(self, failures: list[Exception]) -> Exception | None:
        """Return the failure to try again after.

        Raises:
            WeighbridgeError: another attempt would not help.
        """
        lasting = (ServerUnreachableError, UnavailableError, BucketUnreachableError, BucketRefusedError)
        for failure in failures:
            if not isinstance(failure, lasting):
                raise failure
        self._refusals = self._refusals + 1 if any(isinstance(each, BucketRefusedError) for each in failures) else 0
        return failures[0] if failures else None

    def _receive(self, run: ReadRun, landing: Landing) -> None:
        """Write one run as it arrives.

        Raises:
            BucketUnreachableError, BucketRefusedError: it does not come from there.
            ServerUnreachableError: the connection broke; what came is noted.
        """
        position = noted = run.offset
        end = run.offset + run.length
        try:
            with self._open(run) as incoming, self._known(incoming):
                announced = incoming.headers.get("Content-Length")
                if announced is not None and announced != str(run.length):
                    raise BucketRefusedError(f"{announced} bytes instead of {run.length}")
                while position < end and not self._is_ended.is_set():
                    size = self._partial.receive(incoming, landing, position, end - position)
                    if not size:
                        raise ServerUnreachableError(f"{position - run.offset} of {run.length} bytes came. Try again.")
                    position += size
                    if position - noted >= NOTE_BYTES:
                        self._note(noted, position)
                        noted = position
        finally:
            self._note(noted, position)

    def _receive_several(self, wanted: Batch) -> None:
        """Write many short ranges; where something in between or an older service does not give them, ask one by one.

        Raises:
            ServerUnreachableError: the connection broke, or the answer is another.
        """
        opened = self._transport.open(
            "GET", self._path, headers=wanted.headers, read_timeout_seconds=READ_TIMEOUT_SECONDS
        )
        with opened as incoming, self._known(incoming):
            if not is_multipart(incoming.headers):
                self._takes_several = False
                return
            body = incoming.read(wanted.most_bytes)
        for offset, data in split(body, wanted):
            self._partial.write(offset, data)
            self._note(offset, offset + len(data))

    @contextmanager
    def _known(self, incoming: Incoming) -> Generator[None]:
        self._incoming.add(incoming)
        try:
            yield
        finally:
            self._incoming.discard(incoming)

    def _note(self, start: int, end: int) -> None:
        if end > start:
            self._partial.note(start, end - start)
            self._shown.reach(self._partial.size_bytes)

    def _open(self, run: ReadRun) -> AbstractContextManager[Incoming]:
        path = path_below_api(run.url)
        if path is None:
            return self._buckets.open(run.url, run.headers, READ_TIMEOUT_SECONDS)
        return self._transport.open("GET", path, headers=run.headers, read_timeout_seconds=READ_TIMEOUT_SECONDS)


def _first(missing: Sequence[ByteRange]) -> list[ByteRange]:
    """Return the first ranges, of which one plan says where they are, each short enough for one connection."""
    pieces = (
        (start, min(RUN_BYTES, offset + length - start))
        for offset, length in missing
        for start in range(offset, offset + length, RUN_BYTES)
    )
    return list(islice(pieces, PLAN_RUNS))


def _check(plan: ReadPlan, path: str, wanted: Sequence[ByteRange], url: str) -> None:
    """Return when the runs are exactly what was asked for.

    Raises:
        ServerUnreachableError: whatever answered is no Weighbridge service.
    """
    runs = iter(plan.runs)
    for offset, length in wanted:
        position = offset
        while position < offset + length:
            run = next(runs, None)
            is_next = run is not None and run.path == path and run.offset == position
            if run is None or not is_next or not 0 < run.length <= offset + length - position:
                raise ServerUnreachableError(
                    f"What answered at {url} says where other bytes are than those asked for. Check the URL, and that "
                    "client and service are of a like version."
                )
            position += run.length


def _range(offset: int, length: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-{offset + length - 1}"}
