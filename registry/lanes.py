"""Several things done with each piece of a stream, each in a thread of its own that may lag behind the others."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

MOST_BEHIND = 2
"""Pieces that wait for a lane at most."""


class Lanes:
    """Hands every piece to every taker, in order. As a context manager it waits for all of them at the end.

    Args:
        takers: each gets all pieces, one after another. What one raises, `put` or the end of the block raises.
    """

    def __init__(self, takers: Sequence[Callable[[memoryview], object]]) -> None:
        self._takers = takers
        self._threads = [ThreadPoolExecutor(1, "lane") for _ in takers]
        self._under_way: deque[list[Future[object]]] = deque()

    def put(self, piece: bytes | memoryview) -> None:
        """Hand a piece over; wait until no lane is more than `MOST_BEHIND` pieces behind.

        So whoever has one buffer more than that may fill them in turns.
        """
        view = memoryview(piece)
        self._under_way.append(
            [thread.submit(take, view) for thread, take in zip(self._threads, self._takers, strict=True)]
        )
        if len(self._under_way) > MOST_BEHIND:
            self._wait_for_oldest()

    def _wait_for_oldest(self) -> None:
        for each in self._under_way.popleft():
            each.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._under_way and error is None:
                self._wait_for_oldest()
        finally:
            for thread in self._threads:
                thread.shutdown(cancel_futures=True)
