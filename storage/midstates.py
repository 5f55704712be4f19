"""Digests of the beginnings of objects, kept in memory: what begins alike need not be digested from its start.

SHA-256 is the slowest pass of all where a processor has no instructions for it, and a fine-tune begins with most of its
base. Nothing is believed for it: what is kept counts only for bytes that have the BLAKE3 it was made of, which is
computed again of every file. It is kept by location, so that a team has that of its own objects only.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from heapq import nlargest
from typing import NamedTuple

from registry.digest import Sha256Prefix, StreamDigests
from registry.formats.source import ByteRange

STEP_BYTES = 8 << 20
MOST_MARKS = 256
"""Of one object: of larger ones they lie further apart."""
MOST_RANGES = 512
"""Of one pass: its longest ones."""
MOST_OBJECTS = 128


class Midstate(NamedTuple):
    """What a pass knew when it had come to a mark.

    Attributes:
        blake3: `blake3:…` of all bytes before it.
        sha256: the SHA-256 of the same bytes, which can go on.
        ranges: `blake3:…` of ranges that end between the mark before and this one.
    """

    blake3: str
    sha256: Sha256Prefix
    ranges: Mapping[ByteRange, str] = {}


class Midstates:
    """What this process knows of the beginnings of objects. Losing it costs only time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, dict[int, Midstate]] = OrderedDict()

    def remember(self, location: str, prefix: Sha256Prefix, digests: StreamDigests) -> None:
        """Keep what a pass over bytes at a location marked of their beginning."""
        ranges = nlargest(MOST_RANGES, digests.ranges.items(), key=lambda item: item[0][1])
        ordered = sorted(ranges, key=lambda item: -sum(item[0]))
        found: dict[int, Midstate] = {}
        for position in sorted(prefix.kept.keys() & digests.prefixes.keys()):
            ended: dict[ByteRange, str] = {}
            while ordered and sum(ordered[-1][0]) <= position:
                ended.update([ordered.pop()])
            found[position] = Midstate(digests.prefixes[position], prefix.kept[position], ended)
        if not found:
            return
        with self._lock:
            known = {**self._known.pop(location, {}), **found}
            self._known[location] = known
            while len(known) > 2 * MOST_MARKS:
                del known[min(known)]
            while len(self._known) > MOST_OBJECTS:
                self._known.popitem(last=False)

    def forget(self, location: str) -> None:
        """Keep nothing of an object: its bytes are others than they were."""
        with self._lock:
            self._known.pop(location, None)

    def find(self, location: str, most_bytes: int) -> dict[int, Midstate]:
        """Return the states within the first bytes of an object, by position."""
        with self._lock:
            known = self._known.get(location)
            if known is None:
                return {}
            self._known.move_to_end(location)
            return {position: state for position, state in known.items() if position <= most_bytes}


def mark_positions(size_bytes: int) -> list[int]:
    """Return where states of an object's beginning are kept, the last one at its end."""
    step = max(STEP_BYTES, -(-size_bytes // MOST_MARKS))
    return [*range(step, size_bytes, step), size_bytes]
