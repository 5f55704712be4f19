"""Planned uploads between the event loop and threads: parts as they arrive, and verification that outlives requests."""

import asyncio
import logging
import secrets

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.limits import key_of
from api.measures import Measures
from api.receive import check_whole, iter_filled
from api.service import Service
from api.tasks import end, to_its_end
from registry.errors import IncompleteUploadError, SizeMismatchError, WeighbridgeError
from registry.schema import VersionInfo
from registry.uploads import PartRequest, PlannedFile, UploadInfo
from storage.access import Caller
from storage.metadata.upload_records import UploadRecord
from storage.stores import Stores
from storage.uploads.completing import Completion, begin_completing, complete
from storage.uploads.parts import find_missing, find_upload, open_part, renew_when_due, request_first_parts
from storage.uploads.reuse import ranges_to_send

PARTS_BYTES = 8 << 20
"""Of all parts on their way, in memory until they are written; what comes meanwhile waits in the kernel."""
MOST_OF_A_PART, LEAST_OF_A_PART = 512 << 10, 64 << 10
"""Of it. The least makes no part wait for another's memory, however many have stalled."""
BEAT_SECONDS = 10.0
WAIT_SECONDS = 10.0
"""How long completing waits for the version before it answers that the upload is being verified."""

log = logging.getLogger("weighbridge.receive")


async def receive_part(  # noqa: PLR0917 - a part is named by two numbers
    request: Request, service: Service, caller: Caller, upload: UploadRecord, position: int, number: int
) -> None:
    """Take the body of a request as a part of a file.

    Raises:
        InvalidRequestError: the body is a part of the part, or packed.
        SizeMismatchError: it is announced longer or shorter than the part.
        RateLimitedError: as many uploads are open already as this caller, or this process, may have.
        UploadEndedError: the upload takes no bytes any more.
        IncompleteUploadError: the client went away, or paused for too long, before the end.
    """
    check_whole(request)
    with service.callers.parts.one(key_of(caller)) as parts:
        file, writer = await service.in_upload(open_part, service.stores, caller, upload, position, number)
        try:
            _check_length(request, file.place(number)[1])
            async for piece in iter_filled(request, service.settings.idle_seconds, share_of_memory(parts)):
                await service.in_upload(writer.write, [piece])
            await service.in_upload(writer.keep)
        except ClientDisconnect as error:
            raise IncompleteUploadError("The part broke off before its end. Send it again.") from error
        finally:
            await asyncio.shield(service.in_upload(writer.close))
    await service.in_upload(renew_when_due, service.stores, upload)
    service.follow(service.stores.prefixes.follow, service.stores.blobs, file)


def share_of_memory(parts: int) -> int:
    """Return how many bytes of a part are kept in memory while as many are on their way."""
    fair = PARTS_BYTES // parts // LEAST_OF_A_PART * LEAST_OF_A_PART
    return max(LEAST_OF_A_PART, min(fair, MOST_OF_A_PART))


def _check_length(request: Request, length: int) -> None:
    announced = request.headers.get("content-length")
    if announced is not None and int(announced) != length:
        raise SizeMismatchError(
            f"The part has {length} bytes by the plan; {announced} are announced.",
            expected=length,
            actual=int(announced),
        )


def upload_info(stores: Stores, upload: UploadRecord, *, route: str | None = None) -> UploadInfo:
    """Return an upload as it is told; with its own route, also how its first missing parts are sent."""
    version = None
    if upload.number is not None:
        version = stores.catalog.get_version(
            upload.team, upload.model, str(upload.number), include_deleted=True, include_quarantined=True
        )
    missing = [find_missing(stores.blobs, upload, file) for file in upload.files]
    first = (
        [list[PartRequest]() for _ in missing] if route is None else request_first_parts(stores, upload, missing, route)
    )
    return UploadInfo(
        id=upload.id,
        team=upload.team,
        model=upload.model,
        state=upload.state,
        direct=upload.direct,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        files=[
            PlannedFile(
                path=file.path,
                size_bytes=file.size_bytes,
                part_bytes=file.part_bytes,
                missing=spans,
                send=None if file.extents is None else ranges_to_send(file.extents),
                parts=parts,
            )
            for file, spans, parts in zip(upload.files, missing, first, strict=True)
        ],
        version=version,
        problem=upload.problem,
    )


class Completions:
    """Uploads that this process verifies, each in a task of its own: a client that goes away does not stop it."""

    def __init__(self, service: Service, measures: Measures) -> None:
        self._service = service
        self._measures = measures
        self._tasks: dict[str, asyncio.Task[VersionInfo]] = {}
        self._holder = secrets.token_hex(8)

    async def complete(self, caller: Caller, team: str, model: str, upload_id: str) -> VersionInfo | None:
        """Return the version; None when it takes longer than a request should.

        Raises:
            WeighbridgeError: as for `begin_completing` and `complete`.
        """
        service = self._service
        task = self._tasks.get(upload_id)
        if task is None:
            holder = f"{self._holder}-{secrets.token_hex(4)}"
            begun = await service.in_upload(begin_completing, service.stores, caller, team, model, upload_id, holder)
            if isinstance(begun, VersionInfo) or begun is None:
                return begun
            task = self._tasks[upload_id] = asyncio.create_task(self._run(begun))
            task.add_done_callback(lambda done: self._forget(upload_id, done))
        else:
            await service.in_upload(find_upload, service.stores, caller, team, model, upload_id)
        done, _ = await asyncio.wait([task], timeout=WAIT_SECONDS)
        return task.result() if done else None

    async def close(self) -> None:
        """Wait for what is being verified: a thread cannot be stopped."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _run(self, completion: Completion) -> VersionInfo:
        beating = asyncio.create_task(self._beat_forever(completion))
        try:
            version = await self._service.in_verification(complete, completion)
        except WeighbridgeError as error:
            self._measures.count_push(error.code)
            raise
        finally:
            await end(beating)
        self._measures.count_push("published")
        return version

    async def _beat_forever(self, completion: Completion) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await to_its_end(self._service.in_upload(completion.renew))
            except WeighbridgeError:  # it was taken over, or the database is away: publishing will say so
                log.info("An upload could not say that it is being verified", exc_info=True)

    def _forget(self, upload_id: str, done: asyncio.Task[VersionInfo]) -> None:
        self._tasks.pop(upload_id, None)
        if not done.cancelled():
            done.exception()  # whoever asks again is told by the upload's row
