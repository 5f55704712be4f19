"""Uploads by plan: parts over a few connections at once, straight to a bucket where the service says so, resumable."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from itertools import chain

from registry.client.answers import PIECE_BYTES
from registry.client.bucket import BucketRefusedError, Buckets, BucketUnreachableError, refused
from registry.client.outgoing import PartBody
from registry.client.progress import Bar
from registry.client.results import Version
from registry.client.tiling import with_digest
from registry.client.transfer import OutgoingFile, announce
from registry.client.transport import (
    MAX_ANSWER_BYTES,
    READ_TIMEOUT_SECONDS,
    Transport,
    back_off_seconds,
    path_below_api,
    route,
)
from registry.errors import PlanStaleError, ServerUnreachableError, UploadEndedError, UploadNotFoundError
from registry.names import Reference
from registry.schema import VersionCreate
from registry.uploads import PartRequest, PartRequests, PartsWanted, PlannedFile, UploadCreate, UploadInfo

STREAMS = 4
"""Connections at once."""
BATCH = 64
"""Parts whose requests are asked for together."""
PLANS = 3
"""An upload that expired, or whose bucket cannot be reached from here, is planned anew so often."""
PART_ATTEMPTS = 5
_ACCEPTED = 202


class Uploader:
    """Uploads of one client.

    Args:
        transport: to the service.
        buckets: to wherever signed URLs lead.
        bar: is told of bytes that have moved.

    Attributes:
        send_bytes: how much the last plan had sent; the rest was stored already.
    """

    def __init__(self, transport: Transport, buckets: Buckets, bar: Bar) -> None:
        self._transport = transport
        self._buckets = buckets
        self._bar = bar
        self.send_bytes = 0

    def upload(
        self,
        reference: Reference,
        metadata: VersionCreate,
        files: Sequence[OutgoingFile],
        tiled: Collection[str],
        idempotency_key: str,
    ) -> Version:
        """Plan, send what is missing, complete; return the version. The same key again goes on where it stopped.

        Of files whose paths are `tiled` only what is not stored is sent.

        Raises:
            ServerUnreachableError: the service, or the bucket, was away for too long.
            SizeMismatchError: a file became shorter while it was sent.
            WeighbridgeError: the service refused it.
        """
        by_path = {each.path: each for each in files}
        tiles = {path: list(by_path[path].tiles) for path in tiled}
        for attempt in range(1, PLANS + 1):
            key = idempotency_key if attempt == 1 else f"{idempotency_key}-{attempt}"
            if attempt == PLANS:  # what becomes stale time and again is sent in the end
                tiles, files = {}, [with_digest(each) for each in files]
            create = UploadCreate(metadata=announce(metadata, files), direct=self._buckets.reachable)
            if tiles:
                create = create.model_copy(update={"tiles": tiles})
            plan = self._plan(reference, create, key)
            self.send_bytes = sum(file.send_bytes for file in plan.files)
            try:
                if plan.state == "open":
                    self._send_missing(plan, by_path)
                return self._complete(plan)
            except BucketUnreachableError as error:  # the next plan leads through the service
                self._abort(plan)
                if attempt == PLANS:
                    raise refused(error) from error
            except (PlanStaleError, UploadEndedError, UploadNotFoundError):
                if attempt == PLANS:
                    raise
            self._bar.restart()
        raise AssertionError("the loop ends by return or raise")

    def _plan(self, reference: Reference, create: UploadCreate, key: str) -> UploadInfo:
        path = route("models", reference.team or "", reference.model, "uploads")
        return self._transport.call(UploadInfo, "POST", path, body=create, headers={"Idempotency-Key": key})

    def _send_missing(self, plan: UploadInfo, files: Mapping[str, OutgoingFile]) -> None:
        self._bar.advance(sum(file.size_bytes for file in plan.files) - _missing_bytes(plan))
        with ThreadPoolExecutor(STREAMS, "weighbridge-upload") as pool:
            sending: set[Future[None]] = set()
            try:
                for file, part in self._iter_requests(plan):
                    sending.add(pool.submit(self._send_part, plan, file, part, files[file.path]))
                    if len(sending) >= 2 * STREAMS:
                        done, sending = wait(sending, return_when=FIRST_COMPLETED)
                        for each in done:
                            each.result()
                for each in wait(sending, return_when=FIRST_EXCEPTION).done:
                    each.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _iter_requests(self, plan: UploadInfo) -> Iterator[tuple[PlannedFile, PartRequest]]:
        """Yield how to send each missing part: as the plan says, then asking for a batch of them when it is due."""
        for file in plan.files:
            told = {part.number for part in file.parts}
            yield from ((file, part) for part in file.parts)
            spans = chain.from_iterable(range(first, last + 1) for first, last in file.missing)
            numbers = [number for number in spans if number not in told]
            for start in range(0, len(numbers), BATCH):
                for part in self._request_parts(plan, file.path, numbers[start : start + BATCH]):
                    yield file, part

    def _request_parts(self, plan: UploadInfo, path: str, numbers: list[int]) -> list[PartRequest]:
        wanted = PartsWanted(path=path, numbers=numbers)
        return self._transport.call(PartRequests, "POST", f"{_route(plan)}/parts", body=wanted, repeatable=True).parts

    def _send_part(self, plan: UploadInfo, planned: PlannedFile, part: PartRequest, file: OutgoingFile) -> None:
        body = PartBody(file, planned, part, self._bar)
        headers = {**part.headers, "Content-Length": str(part.length), "Content-Type": "application/octet-stream"}
        service_path = path_below_api(part.url)
        if service_path is not None:
            with self._transport.open(part.method, service_path, body=body, headers=headers) as answer:
                answer.read()
            return
        for attempt in range(1, PART_ATTEMPTS + 1):
            try:
                with self._buckets.open(
                    part.url, headers, READ_TIMEOUT_SECONDS, method=part.method, make_body=body
                ) as answer:
                    answer.read(PIECE_BYTES)
            except ServerUnreachableError:
                if attempt == PART_ATTEMPTS:
                    raise
            except BucketRefusedError as error:
                if attempt == PART_ATTEMPTS:
                    raise refused(error) from error
            else:
                return
            time.sleep(back_off_seconds(attempt))
            (part,) = self._request_parts(plan, planned.path, [part.number])  # what was signed may have expired
            headers |= part.headers

    def _complete(self, plan: UploadInfo) -> Version:
        """Ask for the version until it is there: verifying may take long, and whoever verifies may die."""
        while True:
            with self._transport.open("POST", f"{_route(plan)}/complete", repeatable=True) as answer:
                status, data = answer.status, answer.read(MAX_ANSWER_BYTES + 1)
            if status != _ACCEPTED:
                return self._transport.understand(Version, data)
            time.sleep(1.0)

    def _abort(self, plan: UploadInfo) -> None:
        self._transport.send("DELETE", _route(plan))


def _route(plan: UploadInfo) -> str:
    return route("models", plan.team, plan.model, "uploads", plan.id)


def _missing_bytes(plan: UploadInfo) -> int:
    missing = 0
    for file in plan.files:
        for first, last in file.missing:
            missing += min(last * file.part_bytes, file.send_bytes) - (first - 1) * file.part_bytes
    return missing
