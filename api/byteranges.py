"""Several short ranges of an artifact in one answer, as `multipart/byteranges` (RFC 9110, sections 14.2 and 14.6)."""

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from registry.formats.source import ByteRange

MAX_RANGES = 256
MAX_BYTES = 2 << 20
"""Of all ranges of one answer: they are in memory at once."""
_BOUNDS = r"\d{1,19}-\d{1,19}"
_RANGES = re.compile(rf"bytes\s*=\s*({_BOUNDS}(?:\s*,\s*{_BOUNDS}){{1,{MAX_RANGES - 1}}})", re.IGNORECASE)
_PIECE_BYTES = 1 << 20


def find_ranges(headers: Mapping[str, str], etag: str, size_bytes: int) -> list[ByteRange]:
    """Return the ranges of a request for several, as offsets and lengths; none where the whole is the answer.

    RFC 9110 leaves to the server which sets of ranges it answers: here at most `MAX_RANGES` that are in order, apart
    and inside the artifact, together at most `MAX_BYTES`.
    """
    found = _RANGES.fullmatch(headers.get("range", "").strip())
    if found is None or headers.get("if-range", etag).strip() != etag:
        return []
    bounds = [tuple(map(int, each.split("-"))) for each in found[1].split(",")]
    ranges: list[ByteRange] = []
    position = 0
    for first, last in bounds:
        if not position <= first <= last < size_bytes:
            return []
        ranges.append((first, last + 1 - first))
        position = last + 1
    return ranges if sum(length for _, length in ranges) <= MAX_BYTES else []


@dataclass(frozen=True, slots=True)
class Multipart:
    """How ranges lie in a body.

    Attributes:
        heads: what stands before each range.
        tail: what stands after the last.
        length: of the body, in bytes.
    """

    boundary: str
    heads: Sequence[bytes]
    tail: bytes
    length: int

    @property
    def media_type(self) -> str:
        """The `Content-Type` of the answer."""
        return f"multipart/byteranges; boundary={self.boundary}"

    def iter_body(self, contents: Sequence[bytes]) -> Iterator[bytes]:
        """Yield the body with these bytes of the ranges, in pieces of about 1 MiB."""
        gathered: list[bytes] = []
        size = 0
        for head, content in zip(self.heads, contents, strict=True):
            gathered += (head, content)
            size += len(head) + len(content)
            if size >= _PIECE_BYTES:
                yield b"".join(gathered)
                gathered, size = [], 0
        yield b"".join([*gathered, self.tail])


def frame(ranges: Sequence[ByteRange], size_bytes: int, media_type: str) -> Multipart:
    """Return how these ranges of something that has `size_bytes` become one body."""
    boundary = secrets.token_hex(16)
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\n"
        f"Content-Range: bytes {offset}-{offset + length - 1}/{size_bytes}\r\n\r\n".encode("ascii")
        for offset, length in ranges
    ]
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")
    length = sum(map(len, heads)) + sum(length for _, length in ranges) + len(tail)
    return Multipart(boundary, heads, tail, length)
