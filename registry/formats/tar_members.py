"""The members of a tar file that torch 0.1.9 or earlier wrote: four regular files, and nothing else."""

import re
from collections.abc import Iterator
from typing import NoReturn

from registry.errors import MalformedArtifactError
from registry.formats.source import ByteRange, ByteSource

MEMBERS = frozenset({"sys_info", "pickle", "tensors", "storages"})
_BLOCK = 512
_REGULAR = frozenset({b"0", b"\0"})
_NUMBERS = (slice(100, 108), slice(108, 116), slice(116, 124), slice(136, 148), slice(329, 337), slice(337, 345))
"""Mode, owner, group, time, and the numbers of a device, which Python's tarfile reads of every header."""
_OCTAL = re.compile(rb"[ \0]*[0-7]*[ \0]*")
_EXTENDED_BYTES = 1 << 16
_RECORD = re.compile(rb"(\d{1,5}) (?:[acm]time=\d{1,11}(?:\.\d*)?|[ug]id=\d{1,9}|[ug]name=[^\n]*|comment=[^\n]*)\n")
"""What an extended header may say; other words change the name or the size of a member, or where it has holes."""
_MAX_HEADERS = 64


def refuse_tar(problem: str) -> NoReturn:
    """Raise `MalformedArtifactError` with a sentence about a tar file."""
    raise MalformedArtifactError(f"The tar file cannot be read: {problem}.")


def read_members(source: ByteSource) -> dict[str, ByteRange]:
    """Return where the content of each member lies.

    Raises:
        MalformedArtifactError: it is no tar file, or its members are not the four that torch writes.
    """
    members = dict(_iter_members(source))
    if members.keys() != MEMBERS:
        refuse_tar(f"it holds {sorted(members)} where torch writes {sorted(MEMBERS)}")
    return members


def _iter_members(source: ByteSource) -> Iterator[tuple[str, ByteRange]]:
    position, seen, extended = 0, set[str](), False
    for _ in range(_MAX_HEADERS):
        header = source.read_many([(position, _BLOCK)])[0] if position + _BLOCK <= source.size else b""
        if not header.strip(b"\0"):
            if extended:
                refuse_tar("an extended header stands before nothing")
            return
        size = _member_size(header)
        name, kind = header[:100].rstrip(b"\0").decode("latin-1"), header[156:157]
        content = (position + _BLOCK, size)
        position += _BLOCK + size + -size % _BLOCK
        if position > source.size:
            refuse_tar("a member is truncated")
        extended = kind == b"x" and size <= _EXTENDED_BYTES
        if extended:
            _check_extended(source.read_many([content])[0])
            continue
        if kind not in _REGULAR or name not in MEMBERS or name in seen or header[345:500].strip(b"\0"):
            refuse_tar(f"its member {name[:100]!r} is none that torch writes, or comes twice")
        seen.add(name)
        yield name, content
    refuse_tar("it has too many members")


def _check_extended(records: bytes) -> None:
    position = 0
    while position < len(records):
        record = _RECORD.match(records, position)
        if record is None or len(record[0]) != int(record[1]):
            refuse_tar("a member has an extended name or size, or an extended header that is not well formed")
        position = record.end()


def _member_size(header: bytes) -> int:
    if not all(_OCTAL.fullmatch(header[place]) for place in _NUMBERS):
        refuse_tar("a number in a member's header is not octal")
    digits = header[124:136].strip(b" \0")
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    check = header[148:156].strip(b" \0")
    if not digits.isdigit() or not check.isdigit() or not set(digits + check) <= set(b"01234567"):
        refuse_tar("a member has no valid size")
    if int(check, 8) != total:
        refuse_tar("the checksum of a member's header is wrong")
    return int(digits, 8)
