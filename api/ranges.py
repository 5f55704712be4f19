"""Conditional and ranged GET of an artifact (RFC 9110, sections 13 and 14), and its bytes, one read ahead."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus

from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from api.files_response import FilesResponse, close_pieces, takes_files
from registry.errors import RangeNotSatisfiableError
from storage.blobs.base import FilePiece

_MEDIA_TYPE = "application/octet-stream"
_RANGE = re.compile(r"bytes\s*=\s*(\d{0,20})\s*-\s*(\d{0,20})", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class Selection:
    """What of some bytes is asked for, and with which status it is answered.

    Attributes:
        size_bytes: of the whole.
    """

    status: int
    offset: int
    length: int
    size_bytes: int


def select(method: str, headers: Mapping[str, str], etag: str, size_bytes: int) -> Selection:
    """Return what the headers of a request ask for.

    Several ranges (but see `api.byteranges`), and what is no range, are answered with the whole, as RFC 9110 allows;
    ranges are defined for GET only.

    Raises:
        RangeNotSatisfiableError: the range begins behind the end.
    """
    none_match = headers.get("if-none-match")
    if none_match is not None and (none_match.strip() == "*" or etag in _TAG.findall(none_match)):
        return Selection(304, 0, 0, size_bytes)
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if method != "GET" or found is None or found[0].count("-") != 1 or not (found[1] or found[2]):
        return Selection(200, 0, size_bytes, size_bytes)
    if headers.get("if-range", etag).strip() != etag:  # weak tags and dates are no match
        return Selection(200, 0, size_bytes, size_bytes)
    return _ranged(found[1], found[2], size_bytes)


def _ranged(first: str, last: str, size_bytes: int) -> Selection:
    start = int(first) if first else max(size_bytes - int(last), 0)
    end = size_bytes if not (first and last) else min(int(last) + 1, size_bytes)
    if first and last and int(last) < int(first):
        return Selection(200, 0, size_bytes, size_bytes)
    if start >= end:
        raise RangeNotSatisfiableError(
            f"The artifact has {size_bytes} bytes; the range begins behind them.", size_bytes=size_bytes
        )
    return Selection(206, start, end - start, size_bytes)


async def answer_selected(
    request: Request,
    selection: Selection,
    headers: Mapping[str, str],
    open_pieces: Callable[[], Iterator[bytes]],
    limiter: CapacityLimiter,
    *,
    open_files: Callable[[], Iterator[bytes | FilePiece]] | None = None,
) -> Response:
    """Return the answer that a selection of some bytes has: none of them, their length, a range or the whole.

    Args:
        request: GET or HEAD.
        selection: what `select` made of it.
        headers: of every answer.
        open_pieces: reads what was selected.
        limiter: of the threads that read.
        open_files: gives pieces of files instead, where the connection takes these.

    Raises:
        BlobNotFoundError, BlobStoreUnavailableError: the bytes cannot be read.
    """
    if selection.status == HTTPStatus.NOT_MODIFIED:
        return Response(status_code=selection.status, headers=headers)
    told = {**headers, "Content-Length": str(selection.length)}
    if selection.status == HTTPStatus.PARTIAL_CONTENT:
        last = selection.offset + selection.length - 1
        told["Content-Range"] = f"bytes {selection.offset}-{last}/{selection.size_bytes}"
    if request.method == "HEAD":
        return Response(status_code=selection.status, headers=told, media_type=_MEDIA_TYPE)
    if open_files is not None and takes_files(request):
        files = open_files()
        first = await run_sync(next, files, None, limiter=limiter)
        return FilesResponse(files, first, selection.status, told, _MEDIA_TYPE, limiter)
    body = await start(read_ahead(open_pieces(), limiter))
    return StreamingResponse(body, selection.status, told, media_type=_MEDIA_TYPE)


async def read_ahead(pieces: Iterator[bytes], limiter: CapacityLimiter) -> AsyncGenerator[bytes]:
    """Yield pieces, reading the next one in a thread while one is sent. At most two are in memory."""
    following = asyncio.ensure_future(_next(pieces, limiter))
    try:
        while (piece := await asyncio.shield(following)) is not None:
            following = asyncio.ensure_future(_next(pieces, limiter))
            yield piece
    finally:
        # The thread must be done with the iterator before somebody closes it.
        with CancelScope(shield=True):
            await asyncio.wait([following])
            following.exception()
            await run_sync(close_pieces, pieces, limiter=limiter)


async def start(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Return the same pieces with the first one read: bytes that are missing are an error, not a broken answer.

    Raises:
        BlobNotFoundError, BlobStoreUnavailableError: they cannot be read.
    """
    first = await anext(pieces)

    async def all_pieces() -> AsyncGenerator[bytes]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return all_pieces()


async def _next(pieces: Iterator[bytes], limiter: CapacityLimiter) -> bytes | None:
    return await run_sync(next, pieces, None, limiter=limiter)
