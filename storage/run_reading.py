"""Streaming what lies in several places: short runs are read in windows, a few ahead, and long ones streamed."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from storage.blobs.base import READ_PIECE_BYTES, BlobStore
from storage.metadata.records import Extent

PieceT = TypeVar("PieceT")

Stream = Callable[[str, int, int], Iterator[PieceT]]
"""What yields a range of what is at a location: `BlobStore.stream`, or `BlobStore.stream_files`."""

WINDOW_BYTES = 8 << 20
"""Of runs that are asked for together; a store may read as much again between the places. A longer run is streamed."""
WINDOWS_AHEAD = 3
"""Windows in memory beside the one that is handed out."""


def iter_runs(blobs: BlobStore, runs: Sequence[Extent], stream: Stream[PieceT]) -> Iterator[bytes | PieceT]:
    """Yield the bytes of runs, in order, short ones in pieces of at most 1 MiB, and long ones as `stream` does.

    Raises:
        BlobNotFoundError, BlobStoreUnavailableError: some cannot be read.
        ValueError: a run lies outside its object.
    """
    with ThreadPoolExecutor(WINDOWS_AHEAD, "read-ahead") as pool:
        following: deque[Future[list[bytes]] | Extent] = deque()
        try:
            for window in _iter_windows(runs):
                following.append(window if isinstance(window, Extent) else pool.submit(_read, blobs, window))
                if len(following) > WINDOWS_AHEAD:
                    yield from _iter_pieces_of(following.popleft(), stream)
            while following:
                yield from _iter_pieces_of(following.popleft(), stream)
        finally:
            for each in following:
                if isinstance(each, Future):
                    each.cancel()


def _iter_windows(runs: Sequence[Extent]) -> Iterator[list[Extent] | Extent]:
    """Yield short runs in groups of at most `WINDOW_BYTES`, and longer ones alone."""
    window: list[Extent] = []
    room = WINDOW_BYTES
    for run in runs:
        if run.length > room and window:
            yield window
            window, room = [], WINDOW_BYTES
        if run.length > WINDOW_BYTES:
            yield run
        else:
            window.append(run)
            room -= run.length
    if window:
        yield window


def _iter_pieces_of(window: Future[list[bytes]] | Extent, stream: Stream[PieceT]) -> Iterator[bytes | PieceT]:
    if isinstance(window, Extent):
        return stream(window.location, window.offset, window.length)
    return _iter_pieces(window.result())


def _read(blobs: BlobStore, window: Sequence[Extent]) -> list[bytes]:
    """Return the bytes of each run of a window, by one call an object."""
    members: dict[str, list[int]] = {}
    for index, run in enumerate(window):
        members.setdefault(run.location, []).append(index)
    found = [b""] * len(window)
    for location, indexes in members.items():
        ranges = [(window[index].offset, window[index].length) for index in indexes]
        for index, data in zip(indexes, blobs.read_many(location, ranges), strict=True):
            found[index] = data
    return found


def _iter_pieces(found: Sequence[bytes]) -> Iterator[bytes]:
    """Yield what was read in pieces of at most 1 MiB, short ones joined."""
    gathered: list[bytes] = []
    size = 0
    for data in found:
        for start in range(0, len(data), READ_PIECE_BYTES):
            piece = data[start : start + READ_PIECE_BYTES]
            if size + len(piece) > READ_PIECE_BYTES:
                yield b"".join(gathered)
                gathered, size = [], 0
            gathered.append(piece)
            size += len(piece)
    if gathered:
        yield b"".join(gathered)
