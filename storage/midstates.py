"""Digests of the beginnings of objects, kept in memory: what begins alike need not be read from its start.

A fine-tune begins with most of its base, which is an object: what this process has read and digested of that once never
changes, so a pass over the fine-tune goes on where the two part. It is kept by location, so that a team has that of its
own objects only. Nothing that a client said is part of it.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from registry.digest import Blake3Prefix, Sha256Prefix, StreamDigests
from registry.formats.source import ByteRange

STEP_BYTES = 8 << 20
MOST_MARKS = 64
"""Of one object: of larger ones they lie further apart."""
ROOM_BYTES = 32 << 20
"""For all objects together; those that nobody asked for for longest go."""
_STATE_BYTES = 3_000
_RANGE_BYTES = 300


class Midstate(NamedTuple):
    """What a pass had digested when it had come to a mark."""

    blake3: Blake3Prefix
    sha256: Sha256Prefix


@dataclass(slots=True)
class Beginning:
    """What is known of the first bytes of an object.

    Attributes:
        states: by position.
        ranges: `blake3:…` of ranges that lie within.
    """

    states: dict[int, Midstate] = field(default_factory=dict[int, Midstate])
    ranges: dict[ByteRange, str] = field(default_factory=dict[ByteRange, str])

    @property
    def weight_bytes(self) -> int:
        """About how much memory it takes."""
        return len(self.states) * _STATE_BYTES + len(self.ranges) * _RANGE_BYTES


class Midstates:
    """What this process knows of the beginnings of objects. Losing it costs only time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Beginning] = OrderedDict()
        self._weight_bytes = 0

    def remember(self, location: str, length: int, prefix: Sha256Prefix, digests: StreamDigests) -> None:
        """Keep what a pass found of the first `length` bytes of the object at a location."""
        marks = prefix.kept.keys() & digests.prefixes.keys()
        states = {mark: Midstate(digests.prefixes[mark], prefix.kept[mark]) for mark in marks if mark <= length}
        ranges = {span: digest for span, digest in digests.ranges.items() if sum(span) <= length}
        with self._lock:
            known = self._take(location)
            known = Beginning(known.states | states, known.ranges | ranges)
            while len(known.states) > 2 * MOST_MARKS:
                del known.states[min(known.states)]
            self._known[location] = known
            self._weight_bytes += known.weight_bytes
            while self._weight_bytes > ROOM_BYTES:
                self._take(next(iter(self._known)))

    def forget(self, location: str) -> None:
        """Keep nothing of an object that is not published yet: its bytes may be others than they were."""
        with self._lock:
            self._take(location)

    def _take(self, location: str) -> Beginning:
        known = self._known.pop(location, Beginning())
        self._weight_bytes -= known.weight_bytes
        return known

    def find(self, location: str, length: int) -> Beginning:
        """Return what is known of the first `length` bytes of an object."""
        with self._lock:
            known = self._known.get(location)
            if known is None:
                return Beginning()
            self._known.move_to_end(location)
            return Beginning(
                {mark: state for mark, state in known.states.items() if mark <= length},
                {span: digest for span, digest in known.ranges.items() if sum(span) <= length},
            )


def mark_positions(size_bytes: int) -> list[int]:
    """Return where states of an object's beginning are kept, the last one at its end."""
    step = max(STEP_BYTES, -(-size_bytes // MOST_MARKS))
    return [*range(step, size_bytes, step), size_bytes]
