"""One pass over what was received: read in one thread, and digested in others, whole and by ranges."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from registry.digest import Sha256Prefix, StreamDigests
from registry.errors import DigestMismatchError
from registry.formats.source import ByteRange
from registry.lanes import Lanes
from storage.blobs.base import is_location
from storage.metadata.records import Extent
from storage.midstates import Beginning, Midstate, mark_positions
from storage.push import Assembled, Received
from storage.stores import Stores


class Digested(NamedTuple):
    """The digests of a file and of ranges of it, and the SHA-256 of its pack, where it has one."""

    stream: StreamDigests
    pack_sha256: str | None


def digest_received(
    stores: Stores, received: Received, ranges: Sequence[ByteRange], beat: Callable[[], None]
) -> Digested:
    """Return the digests of a file and of ranges of it; its SHA-256 only where that is not known yet.

    Args:
        stores: where it is.
        received: the file.
        ranges: offsets and lengths, in bytes.
        beat: called now and then.

    Raises:
        BlobNotFoundError, BlobStoreUnavailableError: its bytes cannot be read.
        DigestMismatchError: it has other tiles than were claimed.
    """
    digested = _digest_all(stores, received, ranges, beat)
    for tile in received.claimed:
        found = digested.stream.find_range(tile.offset, tile.length)
        if found != tile.digest:
            raise DigestMismatchError(
                f"The {tile.length} bytes of {received.path!r} from {tile.offset} on came as {found}, claimed was "
                f"{tile.digest}. Nothing was stored; send it again.",
                expected=tile.digest,
                actual=found,
            )
    return digested


def _digest_all(stores: Stores, received: Received, ranges: Sequence[ByteRange], beat: Callable[[], None]) -> Digested:
    """Return the digests of a file from as early on as they are not known."""
    size_bytes, claimed = received.size_bytes, [(tile.offset, tile.length) for tile in received.claimed]
    beginning = _find_beginning(received)
    if received.sha256 is not None or beginning is None:
        begun = received.sha256 is None and (received.sha256_prefix or True)
        return _digest(stores, received, StreamDigests(ranges, size_bytes, sha256=begun, needed=claimed), beat)
    if received.assembled is None:
        stores.midstates.forget(beginning.location)  # it may have come anew since it was digested last
    known = stores.midstates.find(beginning.location, beginning.length)
    unknown, needed = ([span for span in spans if span not in known.ranges] for spans in (ranges, claimed))
    state = _find_state(known, [*unknown, *needed])
    marks = mark_positions(beginning.length)
    sha256 = received.sha256_prefix or Sha256Prefix(marks, None if state is None else state.sha256)
    stream = StreamDigests(
        unknown,
        size_bytes,
        sha256=sha256,
        marks=marks,
        known=known.ranges,
        begun=None if state is None else state.blake3,
        needed=needed,
    )
    digested = _digest(stores, received, stream, beat)
    stores.midstates.remember(beginning.location, beginning.length, sha256, stream)
    return digested


def _find_state(known: Beginning, unknown: Iterable[ByteRange]) -> Midstate | None:
    """Return the last state from which a pass meets all ranges that it has to digest; None for the very start."""
    first = min((offset for offset, length in unknown if length), default=math.inf)
    position = max((mark for mark in known.states if mark <= first), default=None)
    return None if position is None else known.states[position]


def _digest(stores: Stores, received: Received, digests: StreamDigests, beat: Callable[[], None]) -> Digested:
    """Return the digests of a file, of which those bytes are read that were not digested before."""
    start = digests.size_bytes
    pack = _PackDigest(received.assembled, start) if received.assembled is not None else None
    takers = digests.takers if pack is None else [*digests.takers, pack.take]
    with Lanes(takers) as lanes:
        for piece in stores.blobs.stream(received.location, start):
            lanes.put(piece)
            beat()
    return Digested(digests, pack.sha256 if pack is not None else None)


def _find_beginning(received: Received) -> Extent | None:
    """Return the object that a file begins with, and how much of it; None where that is not the object's beginning."""
    if received.assembled is None:
        whole = Extent(received.location, 0, received.size_bytes)
        return whole if is_location(received.location) else None
    first = received.assembled.extents[0]
    places = {source.object_id: source.location for source in received.assembled.sources}
    if first.object_id is None or first.offset:
        return None
    return Extent(places[first.object_id], 0, first.length)


class _PackDigest:
    """SHA-256 of those bytes of a stream that lie in its pack, where they have the same order.

    Args:
        assembled: how the stream lies.
        start: where the stream begins: before its first byte in the pack.
    """

    def __init__(self, assembled: Assembled, start: int) -> None:
        self._pending = list(assembled.pack_ranges())[::-1]
        self._hash = hashlib.sha256()
        self._position = start

    def take(self, view: memoryview) -> None:
        """Take the next bytes of the stream."""
        start = self._position
        self._position = end = start + len(view)
        while self._pending and self._pending[-1][0] < end:
            offset, length = self._pending[-1]
            self._hash.update(view[max(offset - start, 0) : offset + length - start])
            if offset + length > end:
                return
            self._pending.pop()

    @property
    def sha256(self) -> str:
        """`sha256:…` of what has passed."""
        return f"sha256:{self._hash.hexdigest()}"
