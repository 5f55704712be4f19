"""Conditional and ranged GET of an artifact (RFC 9110, sections 13 and 14), and its bytes, one read ahead."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync

from registry.errors import RangeNotSatisfiableError

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,20})\s*-\s*(\d{0,20})", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class Selection:
    """What of an artifact is asked for, and with which status it is answered."""

    status: int
    offset: int
    length: int


def select(method: str, headers: Mapping[str, str], etag: str, size_bytes: int) -> Selection:
    """Return what the headers of a request ask for.

    Several ranges, and what is no range, are answered with the whole, as RFC 9110 allows; ranges are defined for GET
    only.

    Raises:
        RangeNotSatisfiableError: the range begins behind the end.
    """
    none_match = headers.get("if-none-match")
    if none_match is not None and (none_match.strip() == "*" or etag in _TAG.findall(none_match)):
        return Selection(304, 0, 0)
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if method != "GET" or found is None or found[0].count("-") != 1 or not (found[1] or found[2]):
        return Selection(200, 0, size_bytes)
    if headers.get("if-range", etag).strip() != etag:  # weak tags and dates are no match
        return Selection(200, 0, size_bytes)
    return _ranged(found[1], found[2], size_bytes)


def _ranged(first: str, last: str, size_bytes: int) -> Selection:
    start = int(first) if first else max(size_bytes - int(last), 0)
    end = size_bytes if not (first and last) else min(int(last) + 1, size_bytes)
    if first and last and int(last) < int(first):
        return Selection(200, 0, size_bytes)
    if start >= end:
        raise RangeNotSatisfiableError(
            f"The artifact has {size_bytes} bytes; the range begins behind them.", size_bytes=size_bytes
        )
    return Selection(206, start, end - start)


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
            await run_sync(_close, pieces, limiter=limiter)


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


def _close(pieces: Iterator[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
