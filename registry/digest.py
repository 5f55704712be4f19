"""Digests that carry their algorithm, and one pass that digests a stream and ranges of it."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from blake3 import blake3

_DIGEST = re.compile(r"(sha256|blake3):[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether `text` is `sha256:` or `blake3:` and 64 lowercase hex digits."""
    return _DIGEST.fullmatch(text) is not None


def sha256_digest(data: bytes) -> str:
    """Return `sha256:…` of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blake3_digest(data: bytes | memoryview) -> str:
    """Return `blake3:…` of `data`."""
    return f"blake3:{blake3(data).hexdigest()}"


class _Hash(Protocol):
    """What `hashlib` gives, whose type has no public name."""

    def update(self, data: memoryview, /) -> None: ...

    def copy(self) -> Self: ...

    def hexdigest(self) -> str: ...


class Sha256Prefix:
    """The SHA-256 of a stream as far as it has come: begun by one pass, and perhaps finished by another.

    Args:
        marks: positions at which its state is kept, in `kept`: another stream that begins alike can go on from there.
        begun: where to go on from, as it was kept.
    """

    def __init__(self, marks: Iterable[int] = (), begun: "Sha256Prefix | None" = None) -> None:
        self._hash: _Hash = hashlib.sha256() if begun is None else begun._hash.copy()  # noqa: SLF001 - of its own kind
        self.size_bytes = 0 if begun is None else begun.size_bytes
        self._marks = sorted((mark for mark in marks if mark > self.size_bytes), reverse=True)
        self.kept: dict[int, Sha256Prefix] = {}

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        while self._marks and self._marks[-1] <= self.size_bytes + len(view):
            rest = self._marks.pop() - self.size_bytes
            self._take(view[:rest])
            self.kept[self.size_bytes] = Sha256Prefix(begun=self)
            view = view[rest:]
        self._take(view)

    def _take(self, view: memoryview) -> None:
        self._hash.update(view)
        self.size_bytes += len(view)

    @property
    def digest(self) -> str:
        """`sha256:…` of what has come."""
        return f"sha256:{self._hash.hexdigest()}"


class Blake3Prefix(NamedTuple):
    """The BLAKE3 of a stream as far as it has come: another stream that begins alike can go on from there."""

    size_bytes: int
    hash: blake3

    @property
    def digest(self) -> str:
        """`blake3:…` of what has come."""
        return f"blake3:{self.hash.hexdigest()}"


class StreamDigests:
    """SHA-256 and BLAKE3 of a stream, and BLAKE3 of ranges of it, in one sequential pass.

    Ranges may overlap, as views of one storage do. What that costs is bounded: once the ranges add up to more than
    `max_overlap` times the stream, the longest get no digest (a forged file can hold a million views of everything).
    `ranges` are those that are complete.

    Args:
        ranges: offset and length of each range, in bytes.
        size_bytes: the size of the stream.
        max_overlap: how many times the stream the ranges may add up to.
        sha256: whether to compute the SHA-256 too, which costs three times what BLAKE3 does; or as far as it has come.
        marks: positions at which the BLAKE3 of all that has passed is kept, in `prefixes`.
        known: digests of further ranges, from whoever knows them.
        begun: what another pass made of the beginning, which then does not come again: no range begins there, and the
            SHA-256 has come as far.
        needed: further ranges, which do not overlap and are digested whatever the others add up to.
    """

    def __init__(
        self,
        ranges: Sequence[tuple[int, int]],
        size_bytes: int,
        *,
        max_overlap: int = 3,
        sha256: bool | Sha256Prefix = True,
        marks: Iterable[int] = (),
        known: Mapping[tuple[int, int], str] = {},
        begun: Blake3Prefix | None = None,
        needed: Collection[tuple[int, int]] = (),
    ) -> None:
        self._size_bytes = size_bytes
        self._sha256 = Sha256Prefix() if sha256 is True else sha256 or None
        start = 0 if begun is None else begun.size_bytes
        self._sha256_position = self._whole_position = self._ranges_position = start
        self._blake3 = blake3() if begun is None else begun.hash.copy()
        self._known = known
        self.ranges: dict[tuple[int, int], str] = {}
        affordable = _affordable({*ranges}.difference(needed), max_overlap * size_bytes)
        self._pending = sorted([*affordable, *needed], reverse=True)
        self._open: dict[tuple[int, int], blake3] = {}
        self._marks = sorted((mark for mark in marks if mark > start), reverse=True)
        self.prefixes: dict[int, Blake3Prefix] = {}

    @property
    def takers(self) -> list[Callable[[memoryview], None]]:
        """What has to get all of the stream, piece by piece: each may do so in a thread of its own, or `update`."""
        takers = [self._take_whole]
        if self._sha256 is not None and self._sha256.size_bytes < self._size_bytes:
            takers.append(self._take_sha256)
        if self._pending or self._open:
            takers.append(self._take_ranges)
        return takers

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the stream."""
        view = memoryview(data)
        for take in (self._take_sha256, self._take_whole, self._take_ranges):
            take(view)

    def _take_sha256(self, view: memoryview) -> None:
        if self._sha256 is not None:
            fresh = view[max(self._sha256.size_bytes - self._sha256_position, 0) :]
            if fresh:
                self._sha256.update(fresh)
            self._sha256_position += len(view)

    def _take_whole(self, view: memoryview) -> None:
        while self._marks and self._marks[-1] <= self._whole_position + len(view):
            mark = self._marks.pop()
            rest = mark - self._whole_position
            self._blake3.update(view[:rest])
            self.prefixes[mark] = Blake3Prefix(mark, self._blake3.copy())
            view, self._whole_position = view[rest:], mark
        self._blake3.update(view)
        self._whole_position += len(view)

    def _take_ranges(self, view: memoryview) -> None:
        start, end = self._ranges_position, self._ranges_position + len(view)
        while self._pending and self._pending[-1][0] < end:
            self._open[self._pending.pop()] = blake3()
        for span, hasher in list(self._open.items()):
            offset, length = span
            hasher.update(view[max(offset - start, 0) : offset + length - start])
            if offset + length <= end:
                self.ranges[span] = f"blake3:{hasher.hexdigest()}"
                del self._open[span]
        self._ranges_position = end

    @property
    def size_bytes(self) -> int:
        """How many bytes have passed, or came before the first that does."""
        return self._whole_position

    @property
    def sha256(self) -> str:
        """`sha256:…` of all that has passed.

        Raises:
            ValueError: it was not asked for.
        """
        if self._sha256 is None:
            raise ValueError("this pass computes no SHA-256")
        return self._sha256.digest

    @property
    def blake3(self) -> str:
        """`blake3:…` of all that has passed."""
        return f"blake3:{self._blake3.hexdigest()}"

    def find_range(self, offset: int, length: int) -> str | None:
        """Return `blake3:…` of a range, None if it was not asked for, not affordable or not complete yet."""
        span = (offset, length)
        return blake3_digest(b"") if length == 0 else self.ranges.get(span) or self._known.get(span)


def _affordable(spans: Iterable[tuple[int, int]], budget_bytes: int) -> list[tuple[int, int]]:
    """Return the shortest spans that add up to at most the budget."""
    chosen: list[tuple[int, int]] = []
    for offset, length in sorted(spans, key=lambda span: (span[1], span[0])):
        budget_bytes -= length
        if budget_bytes < 0:
            break
        if length:
            chosen.append((offset, length))
    return chosen
