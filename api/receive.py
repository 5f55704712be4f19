"""Receiving a push: bytes from the event loop to threads, a few MiB at a time, and nothing left when it fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CancelScope
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.service import Service
from registry.errors import IncompleteUploadError
from registry.schema import VersionCreate, VersionInfo
from storage.access import Caller
from storage.draft import Draft, Incoming, begin
from storage.publish import check_metadata, publish

PIECE_BYTES = 4 << 20
"""Received bytes are gathered to pieces of about this size before a thread writes them."""


@asynccontextmanager
async def receiving(service: Service, caller: Caller, team: str, model: str, key: str | None) -> AsyncIterator[Draft]:
    """Begin a draft; when the block fails or is cancelled, leave nothing of it.

    Raises:
        IncompleteUploadError: the client went away before the end.
    """
    with CancelScope(shield=True):  # else nobody would be there to free the key
        draft = await service.in_upload(begin, service.stores, caller, team, model, key)
    try:
        yield draft
    except BaseException as error:
        with CancelScope(shield=True):
            await service.in_upload(draft.abandon)
        if isinstance(error, ClientDisconnect):
            raise IncompleteUploadError(
                "The upload broke off before its end. Nothing was stored; send it again."
            ) from error
        raise


async def check_early(service: Service, draft: Draft, metadata: VersionCreate) -> None:
    """Refuse metadata that cannot be before the bytes come."""
    if draft.replay is None:
        await service.in_upload(check_metadata, service.stores, draft.caller, draft.team, metadata)


async def finish(service: Service, draft: Draft, metadata: VersionCreate) -> VersionInfo:
    """Verify and publish what was received."""
    return await service.in_verification(publish, draft, metadata)


class FileSink:
    """One file on its way into a draft: gathers small pieces, writes large ones in a thread."""

    def __init__(self, service: Service, draft: Draft, incoming: Incoming) -> None:
        self._service = service
        self._draft = draft
        self._incoming = incoming
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0

    @classmethod
    async def open(cls, service: Service, draft: Draft, path: str) -> "FileSink":
        """Return the sink of a new file of the draft."""
        return cls(service, draft, await service.in_upload(draft.open_file, path))

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= PIECE_BYTES:
            await self._flush()

    async def close(self) -> None:
        """Write what is left and commit the file."""
        await self._flush()
        await self._service.in_upload(self._draft.close_file, self._incoming)

    async def _flush(self) -> None:
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if gathered:
            await self._service.in_upload(_write_all, self._draft, self._incoming, gathered)


def _write_all(draft: Draft, incoming: Incoming, pieces: list[bytes]) -> None:
    for piece in pieces:
        incoming.write(piece)
    draft.beat_when_due()


async def receive_body(service: Service, draft: Draft, request: Request, path: str) -> None:
    """Receive a request body as the artifact at `path`."""
    sink = await FileSink.open(service, draft, path)
    async for data in request.stream():
        await sink.write(data)
    await sink.close()
