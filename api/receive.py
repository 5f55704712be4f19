"""Receiving a push: bytes from the event loop to threads, a few MiB at a time, and nothing left when it fails."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from mmap import MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, cast

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.direct import RECEIVE_INTO
from api.limits import key_of
from api.service import Service
from api.tasks import end, to_its_end
from registry.errors import AccessError, IncompleteUploadError, InvalidRequestError, NotFoundError, WeighbridgeError
from registry.schema import VersionCreate, VersionInfo
from storage.access import Caller
from storage.draft import Draft, Incoming, begin, check_size
from storage.publish import check_metadata, publish
from storage.push import BEAT_SECONDS

if TYPE_CHECKING:
    from api.measures import Measures

log = logging.getLogger("weighbridge.receive")

PIECE_BYTES = 4 << 20
"""Received bytes are gathered to pieces of about this size before a thread writes them."""


class Receiver:
    """A draft that is fed from the event loop, one file at a time.

    While a thread writes a piece the next one is gathered: at most two are in memory.
    """

    def __init__(self, service: Service, draft: Draft) -> None:
        self._service = service
        self._draft = draft
        self._incoming: Incoming | None = None
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._refused: WeighbridgeError | None = None

    @property
    def max_metadata_bytes(self) -> int:
        """How much may come beside the files."""
        return self._service.stores.limits.max_metadata_bytes

    async def open_file(self, path: str) -> None:
        """Begin the next file."""
        self._incoming = await self._service.in_upload(self._draft.open_file, path)

    async def write(self, data: bytes) -> None:
        """Take the next bytes of the file.

        Raises:
            AccessError, NotFoundError: the caller may not push any more.
        """
        if self._refused is not None:
            raise self._refused
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= PIECE_BYTES:
            await self._flush()

    async def close_file(self) -> None:
        """Write what is left of the file and commit it."""
        await self._flush()
        await self._written()
        if self._incoming is not None:
            await self._service.in_upload(self._draft.close_file, self._incoming)

    def check_room(self, sizes: Collection[int]) -> None:
        """Refuse what the team has no room for, before the bytes come: the announced sizes of files, if any."""
        self._draft.room.check(sizes)

    async def check(self, metadata: VersionCreate) -> None:
        """Refuse metadata that cannot be, before the bytes come."""
        self.check_room([each.size_bytes for each in metadata.artifacts.values() if each.size_bytes is not None])
        if self._draft.replay is None:
            draft = self._draft
            await self._service.in_upload(check_metadata, draft.stores, draft.caller, draft.team, draft.model, metadata)

    async def publish(self, metadata: VersionCreate) -> VersionInfo:
        """Verify what was received and make it a version."""
        return await self._service.in_verification(publish, self._draft, metadata)

    async def beat_forever(self) -> None:
        """Keep the push alive while its bytes trickle in, or while it waits for its turn to be verified."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await to_its_end(self._service.in_upload(self._draft.beat_when_due))
            except (AccessError, NotFoundError) as error:
                self._refused = error  # the caller lost the right to push while the bytes came
            except WeighbridgeError:  # it was given up, or the database is away: publishing will say so
                log.info("A push could not say that it goes on", exc_info=True)

    async def abandon(self) -> None:
        """Leave nothing of the push."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
            if not self._writing.cancelled():
                self._writing.exception()  # known: why else would the push be abandoned
        await self._service.in_upload(self._draft.abandon)

    async def _flush(self) -> None:
        await self._written()
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if gathered and self._incoming is not None:
            work = self._service.in_upload(_write_all, self._incoming, gathered)
            self._writing = asyncio.create_task(work)

    async def _written(self) -> None:
        """Wait until the last piece is written; raise what went wrong with it."""
        if self._writing is not None:
            await asyncio.shield(self._writing)
            self._writing = None


@asynccontextmanager
async def receiving(
    request: Request, service: Service, caller: Caller, team: str, model: str, *, key: str | None
) -> AsyncGenerator[Receiver]:
    """Begin a push; when the block fails or is cancelled, leave nothing of it.

    Raises:
        InvalidRequestError: the body is a part, or packed.
        QuotaExceededError: the team has no room for one more version.
        RateLimitedError: as many uploads are open already as this caller, or this process, may have.
        IncompleteUploadError: the client went away, or paused for too long, before the end.
    """
    check_whole(request)
    with service.callers.uploads.one(key_of(caller)):
        receiver = Receiver(service, await service.in_upload(begin, service.stores, caller, team, model, key))
        async with _kept_alive(receiver, request.app.state.measures):
            receiver.check_room([])
            yield receiver


@asynccontextmanager
async def _kept_alive(receiver: Receiver, measures: "Measures") -> AsyncGenerator[None]:
    """Keep a push alive during a block; when the block fails or is cancelled, leave nothing of the push."""
    beating = asyncio.create_task(receiver.beat_forever())
    try:
        yield
    except BaseException as error:
        await receiver.abandon()
        measures.count_push(error.code if isinstance(error, WeighbridgeError) else "interrupted")
        if isinstance(error, ClientDisconnect):
            raise _broken_off() from error
        raise
    finally:
        await end(beating)
    measures.count_push("published")


async def receive_body(receiver: Receiver, request: Request, path: str, idle_seconds: float) -> None:
    """Receive a request body as the artifact at `path`."""
    receiver.check_room([_announced_bytes(request)])
    await receiver.open_file(path)
    async for data in iter_body(request, idle_seconds):
        await receiver.write(data)
    await receiver.close_file()


async def iter_body(request: Request, idle_seconds: float) -> AsyncGenerator[bytes]:
    """Yield a request's body as it arrives.

    Raises:
        IncompleteUploadError: nothing came for `idle_seconds`.
        ClientDisconnect: the client went away.
    """
    body = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                data = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise _broken_off() from error
        yield data


async def iter_filled(request: Request, idle_seconds: float, size_bytes: int) -> AsyncGenerator[memoryview]:
    """Yield a request's body in one buffer, filled again and again: what was yielded is good until more is asked for.

    Where the connection can, it receives straight into the buffer.

    Args:
        request: whose body.
        idle_seconds: as for `iter_body`.
        size_bytes: of the buffer; all that is yielded but the last fills it.

    Raises:
        IncompleteUploadError, ClientDisconnect: as for `iter_body`.
    """
    offer = request.scope.get("extensions", {}).get(RECEIVE_INTO, _ignore)
    buffer = memoryview(mmap(-1, size_bytes, MAP_PRIVATE))  # the system has it back at once: `malloc` would keep it
    filled = 0
    body = cast("AsyncGenerator[bytes | memoryview]", iter_body(request, idle_seconds))
    offer(buffer)
    async for data in body:
        rest = data
        while rest:
            count = min(len(rest), size_bytes - filled)
            if not isinstance(data, memoryview):  # else it is there already
                buffer[filled : filled + count] = rest[:count]
            rest, filled = rest[count:], filled + count
            if filled == size_bytes:
                yield buffer
                filled = 0
        offer(buffer[filled:])
    if filled:
        yield buffer[:filled]


def _ignore(buffer: memoryview) -> None:
    """Leave a buffer alone: the connection gives bytes."""


def check_whole(request: Request) -> None:
    """Return when the body is what shall be stored: not a part of it, and not packed for the way.

    Raises:
        InvalidRequestError: it is something else; storing it as it is would be wrong.
    """
    if "content-range" in request.headers:
        raise InvalidRequestError("A push sends whole files: leave out `Content-Range` (with curl, `-C`).")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidRequestError("A push sends files as they are: leave out `Content-Encoding`.")
    if request.headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise InvalidRequestError("A push sends files as they are: `Transfer-Encoding` takes `chunked` only.")


def check_announced_size(request: Request, service: Service, path: str) -> None:
    """Return when the file is not announced as too large, or comes in chunks without saying.

    Raises:
        TooLargeError: it is more than the service takes of one file: refused before the first byte.
    """
    check_size(_announced_bytes(request), service.stores.limits.max_artifact_bytes, path)


def _announced_bytes(request: Request) -> int:
    """Return how long the body says it is; 0 where it comes in chunks."""
    return int(request.headers.get("content-length", "0"))


def _write_all(incoming: Incoming, pieces: list[bytes]) -> None:
    for piece in pieces:
        incoming.write(piece)


def _broken_off() -> IncompleteUploadError:
    return IncompleteUploadError("The upload broke off before its end. Nothing was stored; send it again.")
