"""One pass over what was received: read in one thread, and digested in others, whole and by ranges."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from registry.digest import Sha256Prefix, StreamDigests
from registry.formats.source import ByteRange
from registry.lanes import Lanes
from storage.blobs.base import is_location
from storage.metadata.records import Extent
from storage.midstates import Midstate, mark_positions
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
    """
    beginning = _find_beginning(received)
    if received.sha256 is not None or beginning is None:
        begun = received.sha256 is None and (received.sha256_prefix or True)
        return _digest(stores, received, StreamDigests(ranges, received.size_bytes, sha256=begun), beat)
    marks = mark_positions(beginning.length)
    known = stores.midstates.find(beginning.location, beginning.length) if received.assembled is not None else {}
    prefix = received.sha256_prefix or Sha256Prefix(marks, known[max(known)].sha256 if known else None)
    digested = _go_on(stores, received, ranges, (prefix, marks, known), beat)
    if digested is None:
        stores.midstates.forget(beginning.location)
        prefix = Sha256Prefix(marks)
        stream = StreamDigests(ranges, received.size_bytes, sha256=prefix, marks=marks)
        digested = _digest(stores, received, stream, beat)
    stores.midstates.remember(beginning.location, prefix, digested.stream)
    return digested


def _go_on(
    stores: Stores,
    received: Received,
    ranges: Sequence[ByteRange],
    begun: tuple[Sha256Prefix, Sequence[int], Mapping[int, Midstate]],
    beat: Callable[[], None],
) -> Digested | None:
    """Digest what begins as an object does of which states are known; None where it has other bytes than they had."""
    prefix, marks, known = begun
    there = {span: digest for state in known.values() for span, digest in state.ranges.items()}
    stream = StreamDigests(
        [span for span in ranges if span not in there],
        received.size_bytes,
        sha256=prefix,
        marks={*marks, *known},
        known=there,
    )
    digested = _digest(stores, received, stream, beat)
    is_same = all(stream.prefixes.get(position) == state.blake3 for position, state in known.items())
    return digested if is_same else None


def _digest(stores: Stores, received: Received, digests: StreamDigests, beat: Callable[[], None]) -> Digested:
    """Return the digests of all bytes of a file."""
    pack = _PackDigest(received.assembled) if received.assembled is not None else None
    takers = digests.takers if pack is None else [*digests.takers, pack.take]
    with Lanes(takers) as lanes:
        for piece in stores.blobs.stream(received.location):
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
    """SHA-256 of those bytes of a stream that lie in its pack, where they have the same order."""

    def __init__(self, assembled: Assembled) -> None:
        self._pending = list(assembled.pack_ranges())[::-1]
        self._hash = hashlib.sha256()
        self._position = 0

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
