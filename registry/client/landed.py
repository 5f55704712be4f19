"""Which bytes of a file are there: ranges that grow together, and a front that somebody can wait for."""

import threading
from bisect import bisect_left

from registry.formats.source import ByteRange


class Landed:
    """Ranges of a file that have been written. Any thread may add to it or wait for it."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []
        self._changed = threading.Condition()

    @property
    def size_bytes(self) -> int:
        """How many bytes are there."""
        with self._changed:
            return sum(end - start for start, end in self._spans)

    def add(self, offset: int, length: int) -> None:
        """Take down a range; it may be there already."""
        if not length:
            return
        start, end = offset, offset + length
        with self._changed:
            first = bisect_left(self._spans, start, key=lambda span: span[1])
            last = first
            while last < len(self._spans) and self._spans[last][0] <= end:
                start, end = min(start, self._spans[last][0]), max(end, self._spans[last][1])
                last += 1
            self._spans[first:last] = [(start, end)]
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget all of it."""
        with self._changed:
            self._spans = []

    def missing(self, size_bytes: int) -> list[ByteRange]:
        """Return what is not there of a file of this size, as offsets and lengths, in order."""
        gaps: list[ByteRange] = []
        position = 0
        with self._changed:
            for start, end in [*self._spans, (size_bytes, size_bytes)]:
                if start > position:
                    gaps.append((position, start - position))
                position = end
        return gaps

    def wait_beyond(self, position: int, stop: threading.Event) -> int:
        """Return how far the file is there without a gap, once that is further than `position`, or `stop` is set."""
        with self._changed:
            self._changed.wait_for(lambda: stop.is_set() or self._front() > position)
            return self._front()

    def wake(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def _front(self) -> int:
        return self._spans[0][1] if self._spans and self._spans[0][0] == 0 else 0
