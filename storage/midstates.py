"""SHA-256 of the beginnings of objects, kept in memory: what begins alike need not be digested from its start.

SHA-256 is the slowest pass of all where a processor has no instructions for it, and a fine-tune begins with most of its
base. Nothing is believed for it: a state counts only for bytes that have the BLAKE3 it was made of, which is computed
again of every file. States are kept by location, so that a team has those of its own objects only.
"""

import threading
from collections import OrderedDict
from typing import NamedTuple

from registry.digest import Sha256Prefix, StreamDigests

STEP_BYTES = 8 << 20
MOST_MARKS = 256
"""Of one object: of larger ones they lie further apart."""
MOST_OBJECTS = 128


class Midstate(NamedTuple):
    """The SHA-256 of the beginning of an object, and the `blake3:…` of the same bytes."""

    blake3: str
    sha256: Sha256Prefix


class Midstates:
    """What this process knows of the beginnings of objects. Losing it costs only time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, dict[int, Midstate]] = OrderedDict()

    def remember(self, location: str, prefix: Sha256Prefix, digests: StreamDigests) -> None:
        """Keep what a pass over bytes at a location marked of their beginning."""
        found = {
            position: Midstate(digests.prefixes[position], sha256)
            for position, sha256 in prefix.kept.items()
            if position in digests.prefixes
        }
        if not found:
            return
        with self._lock:
            known = {**self._known.pop(location, {}), **found}
            self._known[location] = known
            while len(known) > 2 * MOST_MARKS:
                del known[min(known)]
            while len(self._known) > MOST_OBJECTS:
                self._known.popitem(last=False)

    def find(self, location: str, most_bytes: int) -> Midstate | None:
        """Return the state furthest on within the first bytes of an object."""
        with self._lock:
            known = self._known.get(location)
            if known is None:
                return None
            self._known.move_to_end(location)
            position = max((each for each in known if each <= most_bytes), default=None)
            return None if position is None else known[position]


def mark_positions(size_bytes: int) -> list[int]:
    """Return where states of an object's beginning are kept, the last one at its end."""
    step = max(STEP_BYTES, -(-size_bytes // MOST_MARKS))
    return [*range(step, size_bytes, step), size_bytes]
