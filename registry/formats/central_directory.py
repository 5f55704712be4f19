"""A zip archive's end records and central directory, parsed strictly (PKWARE's APPNOTE, sections 4.3.12 to 4.3.16)."""

import stat
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, NoReturn

from registry.errors import MalformedArtifactError
from registry.formats.limits import Limits
from registry.formats.source import ByteSource

STORED, DEFLATED = 0, 8
DESCRIPTOR_FLAG, UTF8_FLAG = 0x0008, 0x0800
UNKNOWN_16, UNKNOWN_32 = 0xFFFF, 0xFFFF_FFFF
"""Fields with these values say: the real one is in a ZIP64 record."""

_TAIL_BYTES = 64 << 10
_END = Struct("<4s4H2IH")
_END64_LOCATOR = Struct("<4sIQI")
_END64 = Struct("<4sQ2H2I4Q")
_CENTRAL = Struct("<4s6H3I5H2I")
_ZIP64_EXTRA, _UNICODE_PATH_EXTRA = 0x0001, 0x7075
_UNIX = 3
_NO_PARTS = frozenset({"", ".", ".."})
"""What no part of a record's name is."""


class CentralRecord(NamedTuple):
    """One entry of the central directory.

    Attributes:
        name: the whole name, root included.
        raw_name: its bytes, as the local header must repeat them.
        compressed_size, size: in bytes, stored and inflated.
        header_offset: of the local header, in bytes.
    """

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    compressed_size: int
    size: int
    header_offset: int


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the central directory lies, its bytes, and how many entries it announces."""

    offset: int
    data: bytes
    count: int


def refuse_archive(reason: str) -> NoReturn:
    """Raise `MalformedArtifactError` with a sentence about the archive."""
    raise MalformedArtifactError(
        f"The zip archive is not one that torch.save writes: {reason}. Save the weights again with torch.save."
    )


def read_directory(source: ByteSource, limits: Limits) -> Directory:
    """Return the central directory that the records at the very end of the file announce.

    Raises:
        MalformedArtifactError: there is none, or its records contradict each other.
    """
    size = source.size
    if size < _END.size:
        refuse_archive("it is truncated")
    tail_start = max(0, size - _TAIL_BYTES)
    (tail,) = source.read_many([(tail_start, size - tail_start)])
    signature, disk, start_disk, disk_count, count, length, offset, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\x05\x06" or comment:
        refuse_archive("it does not end with its end record (truncated, or bytes were appended)")
    if disk or start_disk or disk_count != count:
        refuse_archive("it spans several disks")
    end = size - _END.size
    located = tail[-_END.size - _END64_LOCATOR.size : -_END.size]
    if located[:4] == b"PK\x06\x07":
        count, length, offset, end = _read_end64(located, tail, end, (count, length, offset))
    elif count == UNKNOWN_16 or UNKNOWN_32 in (length, offset):
        refuse_archive("its ZIP64 records are missing")
    if offset + length != end:
        refuse_archive("its central directory does not end where the end records begin")
    if count > limits.archive_entries or length > limits.archive_entries * 1024:
        refuse_archive(f"it has more than {limits.archive_entries} records")
    if offset >= tail_start:
        return Directory(offset, tail[offset - tail_start : end - tail_start], count)
    return Directory(offset, source.read_many([(offset, length)])[0], count)


def _read_end64(located: bytes, tail: bytes, end: int, small: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return count, length and offset of the directory and its end, from the ZIP64 records before the end record."""
    _, disk, position, disks = _END64_LOCATOR.unpack(located)
    start = end - _END64_LOCATOR.size - _END64.size
    if disk or disks != 1 or position != start:
        refuse_archive("its ZIP64 end record is not where the locator says")
    at = len(tail) - _END.size - _END64_LOCATOR.size - _END64.size
    if at < 0:
        refuse_archive("it is truncated")
    signature, length64, _, _, disk, start_disk, disk_count, count, length, offset = _END64.unpack_from(tail, at)
    if signature != b"PK\x06\x06" or length64 != _END64.size - 12 or disk or start_disk or disk_count != count:
        refuse_archive("its ZIP64 end record is not well formed")
    for value, big, unknown in zip(small, (count, length, offset), (UNKNOWN_16, UNKNOWN_32, UNKNOWN_32), strict=True):
        if value not in (big, unknown):
            refuse_archive("its ZIP64 end record contradicts the end record")
    return count, length, offset, start


def parse_directory(directory: Directory) -> list[CentralRecord]:
    """Return the entries of a central directory in their order.

    Raises:
        MalformedArtifactError: an entry is not well formed, or one that torch.save never writes.
    """
    records: list[CentralRecord] = []
    data, position = directory.data, 0
    while position < len(data):
        if position + _CENTRAL.size > len(data):
            refuse_archive("its central directory is cut off")
        fields = _CENTRAL.unpack_from(data, position)
        name_end = position + _CENTRAL.size + fields[10]
        end = name_end + fields[11]
        if fields[0] != b"PK\x01\x02" or end > len(data):
            refuse_archive("its central directory is not well formed")
        raw_name = data[position + _CENTRAL.size : name_end]
        records.append(_parse_record(fields, raw_name, data[name_end:end]))
        position = end
    if len(records) != directory.count or not records:
        refuse_archive("its central directory does not have the announced number of entries")
    return records


def _parse_record(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> CentralRecord:
    _, made_by, _, flags, method, _, _, crc, packed, size, _, _, comment, disk, _, attributes, offset = fields
    if flags & ~(DESCRIPTOR_FLAG | UTF8_FLAG):
        refuse_archive("a record is encrypted or has unknown flags")
    if method not in (STORED, DEFLATED):
        refuse_archive("a record is compressed with a method other than DEFLATE")
    kind = stat.S_IFMT(attributes >> 16) if made_by >> 8 == _UNIX else 0
    if comment or disk or attributes & 0x10 or kind not in (0, stat.S_IFREG):
        refuse_archive("a record is no regular file")
    wide = _zip64_values(extra) if extra else []
    if size == UNKNOWN_32:
        size = _next_wide(wide)
    if packed == UNKNOWN_32:
        packed = _next_wide(wide)
    if offset == UNKNOWN_32:
        offset = _next_wide(wide)
    if method == STORED and size != packed:
        refuse_archive("a stored record has two sizes")
    name = _decode_name(raw_name, utf8=bool(flags & UTF8_FLAG))
    return CentralRecord(name, raw_name, flags, method, crc, packed, size, offset)


def _zip64_values(extra: bytes) -> list[int]:
    """Return the 64-bit values of the ZIP64 extra field, first one last."""
    found: list[int] | None = None
    position = 0
    while position + 4 <= len(extra):
        tag = int.from_bytes(extra[position : position + 2], "little")
        length = int.from_bytes(extra[position + 2 : position + 4], "little")
        body = extra[position + 4 : position + 4 + length]
        if len(body) < length or tag == _UNICODE_PATH_EXTRA or (tag == _ZIP64_EXTRA and found is not None):
            refuse_archive("an extra field is not well formed, or gives a record a second name")
        if tag == _ZIP64_EXTRA:
            found = [int.from_bytes(body[at : at + 8], "little") for at in range(0, length - length % 8, 8)][::-1]
        position += 4 + length
    if position != len(extra):
        refuse_archive("an extra field is cut off")
    return found or []


def _next_wide(wide: list[int]) -> int:
    if not wide:
        refuse_archive("a ZIP64 extra field lacks a value")
    return wide.pop()


def _decode_name(raw: bytes, *, utf8: bool) -> str:
    try:
        name = raw.decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        refuse_archive("a record's name is not UTF-8")
    parts = name.split("/")
    if "\0" in name or "\\" in name or len(parts) < 2 or not _NO_PARTS.isdisjoint(parts):  # noqa: PLR2004 - root and name
        refuse_archive("a record's name is not a relative path inside one folder")
    return name
