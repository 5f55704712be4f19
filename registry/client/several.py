"""Many short ranges of an artifact by one request: which go together, and the parts of the answer (RFC 9110, 14.6)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from registry.errors import ServerUnreachableError
from registry.formats.source import ByteRange

SHORT_BYTES = 256 << 10
"""What takes longer to ask for than to send, even where the bucket is near."""
MAX_RANGES = 128
"""Of one request: with 128 the header has 3 kB, which every proxy lets pass."""
MAX_BYTES = 1 << 20
_HEAD = re.compile(rb"\r\n--([^\r\n]{1,200})\r\n((?:[^\r\n]+\r\n)*)\r\n")
_CONTENT_RANGE = re.compile(rb"^content-range:[ \t]*bytes[ \t]+(\d{1,19})-(\d{1,19})/", re.IGNORECASE | re.MULTILINE)
_MAX_HEAD_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Ranges that one request asks for, in order and apart."""

    ranges: tuple[ByteRange, ...]

    @property
    def headers(self) -> dict[str, str]:
        """What asks for them."""
        return {"Range": "bytes=" + ",".join(f"{start}-{start + length - 1}" for start, length in self.ranges)}

    @property
    def most_bytes(self) -> int:
        """The most that the answer may have."""
        return sum(length for _, length in self.ranges) + _MAX_HEAD_BYTES * (len(self.ranges) + 1)


def is_multipart(headers: Mapping[str, str]) -> bool:
    """Return whether an answer is in parts."""
    return headers.get("Content-Type", "").lower().startswith("multipart/byteranges")


def batch(ranges: Sequence[ByteRange]) -> tuple[list[Batch], list[ByteRange]]:
    """Return short ranges that go together, and the others."""
    groups: list[list[ByteRange]] = []
    room = 0
    for each in ranges:
        if each[1] > SHORT_BYTES:
            continue
        if each[1] > room or len(groups[-1]) == MAX_RANGES:
            groups.append([])
            room = MAX_BYTES
        groups[-1].append(each)
        room -= each[1]
    batches = [Batch(tuple(group)) for group in groups if len(group) > 1]
    together = {each for found in batches for each in found.ranges}
    return batches, [each for each in ranges if each not in together]


def split(body: bytes, wanted: Batch) -> Iterator[tuple[int, memoryview]]:
    """Yield offset and bytes of each part of an answer, which are the ranges that were asked for, in that order.

    Raises:
        ServerUnreachableError: it is cut off, or is an answer to something else.
    """
    if not body.startswith(b"\r\n"):  # the line before the first part may be missing
        body = b"\r\n" + body
    view, position = memoryview(body), 0
    for offset, length in wanted.ranges:
        head = _HEAD.match(body, position)
        told = _CONTENT_RANGE.search(head[2]) if head is not None else None
        if head is None or told is None or (int(told[1]), int(told[2])) != (offset, offset + length - 1):
            raise _confused()
        position = head.end() + length
        if position > len(body):
            raise _confused()
        yield offset, view[head.end() : position]


def _confused() -> ServerUnreachableError:
    return ServerUnreachableError(
        "The answer to a request for several ranges is cut off, or holds others. Try again; if it stays, something "
        "between here and the service changes it."
    )
