"""One strict zip archive: whatever torch.save never writes, and readers would disagree about, is refused.

Only the tail, the central directory and the local headers are read at first; records are read by name. The
rules are those of `docs/reading-weights.md`, the structures those of PKWARE's APPNOTE.
"""

import zlib
from collections.abc import Sequence
from operator import attrgetter
from struct import Struct
from typing import Any, NamedTuple, Self

from registry.formats.central_directory import (
    DEFLATED,
    DESCRIPTOR_FLAG,
    STORED,
    UNKNOWN_32,
    CentralRecord,
    parse_directory,
    read_directory,
    refuse_archive,
)
from registry.formats.limits import Limits
from registry.formats.source import ByteRange, ByteSource

_LOCAL = Struct("<4s5H3I2H")
_DESCRIPTOR_SIZES = (0, 12, 16, 20, 24)
"""Data descriptors with or without a signature, with sizes of 32 or 64 bits; torch writes none after no bytes."""
_INFLATED_READ = 4096
_PIECE_BYTES = 1 << 20
"""Compressed bytes read beyond those that are wanted inflated: the tables of a first block come before its content."""
_HEADER_BATCH = 4096
"""Local headers asked for in one `read_many`."""


class Entry(NamedTuple):
    """One record of an archive.

    Attributes:
        name: the whole name, root included (`archive/data.pkl`).
        method: 0 for stored, 8 for deflated.
        flags: general purpose bits.
        size: of the content, in bytes.
        compressed_size: as it lies in the file, in bytes.
        crc: the CRC-32 as announced; torch itself does not check it, so a wrong one proves nothing.
        header_offset: of the local header, in bytes.
        data_offset: of the first byte of the (perhaps compressed) content.
    """

    name: str
    method: int
    flags: int
    size: int
    compressed_size: int
    crc: int
    header_offset: int
    data_offset: int


class Archive:
    """A zip archive whose structure was checked, every entry of it.

    Attributes:
        root: the one folder that holds everything.
        entries: by name without the root, in the order of the central directory.
    """

    def __init__(self, source: ByteSource, limits: Limits, root: str, entries: dict[str, Entry]) -> None:
        self._source = source
        self._limits = limits
        self.root = root
        self.entries = entries

    @classmethod
    def open(cls, source: ByteSource, limits: Limits) -> Self:
        """Return the archive that `source` holds, in a few reads whatever its size.

        Raises:
            MalformedArtifactError: it is no zip archive, or has anything that torch.save does not write.
        """
        directory = read_directory(source, limits)
        records = parse_directory(directory)
        root = _check_names(records)
        _check_ratios(records, limits)
        entries = _read_local_headers(source, records, directory.offset)
        skipped = len(root) + 1
        return cls(source, limits, root, {entry.name[skipped:]: entry for entry in entries})

    def data_offset(self, entry: Entry) -> int | None:
        """Return where the content starts in the file, None when it is compressed."""
        return entry.data_offset if entry.method == STORED else None

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return the content of the record `name` (without the root).

        Args:
            name: of the record.
            limit: the most bytes that make sense; the limit for pickles when it is None.

        Raises:
            MalformedArtifactError: there is no such record, it is larger, or does not inflate to its size.
        """
        entry = self.entries.get(name)
        if entry is None:
            refuse_archive(f"it has no record {name!r}")
        limit = self._limits.pickle_bytes if limit is None else limit
        if max(entry.size, entry.compressed_size) > limit:
            refuse_archive(f"its record {name!r} is larger than {limit} bytes")
        (raw,) = self._source.read_many([(entry.data_offset, entry.compressed_size)])
        return raw if entry.method == STORED else _inflate(raw, entry.size)

    def check_inflates(self, entry: Entry) -> None:
        """Return when a compressed record inflates to its size; it is read once, and never in memory as a whole.

        Raises:
            MalformedArtifactError: it does not.
        """
        inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
        end = entry.data_offset + entry.compressed_size
        left = end - entry.data_offset
        while left and inflated <= entry.size and not inflater.eof:
            (raw,) = self._source.read_many([(end - left, min(_PIECE_BYTES, left))])
            left -= len(raw)
            while raw and inflated <= entry.size:
                inflated += len(_inflate_some(inflater, raw))
                raw = inflater.unconsumed_tail
        if inflated != entry.size or not inflater.eof or inflater.unused_data or left:
            refuse_archive("a record does not inflate to its size")

    def read_starts(self, names: Sequence[str], length: int) -> list[bytes]:
        """Return the first `length` bytes of each record, inflated; in one read as long as they deflate as most do."""
        entries = [self.entries[name] for name in names]
        sizes = [
            min(length if each.method == STORED else _INFLATED_READ + length, each.compressed_size) for each in entries
        ]
        raws = self._source.read_many([(each.data_offset, size) for each, size in zip(entries, sizes, strict=True)])
        return [self._start(entry, raw, length) for entry, raw in zip(entries, raws, strict=True)]

    def _start(self, entry: Entry, raw: bytes, length: int) -> bytes:
        if entry.method == STORED:
            return raw
        start = _inflate_start(raw, length)
        while len(start) < min(length, entry.size) and len(raw) < min(entry.compressed_size, self._limits.pickle_bytes):
            size = min(8 * len(raw), entry.compressed_size, self._limits.pickle_bytes)
            (raw,) = self._source.read_many([(entry.data_offset, size)])
            start = _inflate_start(raw, length)
        return start


def _check_names(records: list[CentralRecord]) -> str:
    """Return the root that all records share; refuse names that are one where case is ignored."""
    root = records[0].name.partition("/")[0]
    folder = f"{root}/"
    if not all(record.name.startswith(folder) for record in records):
        refuse_archive("its records are not in one folder")
    if len({record.name.casefold() for record in records}) != len(records):
        refuse_archive("two records have one name")
    return root


def _check_ratios(records: list[CentralRecord], limits: Limits) -> None:
    deflated = [record for record in records if record.method == DEFLATED]
    if any(record.size > limits.inflate_ratio * max(1, record.compressed_size) for record in deflated):
        refuse_archive(f"a record inflates to more than {limits.inflate_ratio} times its size")
    if sum(record.size for record in deflated) > limits.inflated_bytes:
        refuse_archive(f"its records inflate to more than {limits.inflated_bytes} bytes")


def _read_local_headers(source: ByteSource, records: list[CentralRecord], directory_offset: int) -> list[Entry]:
    ranges: list[ByteRange] = []
    for record in records:
        length = _LOCAL.size + len(record.raw_name)
        if record.header_offset + length > directory_offset:
            refuse_archive("a record lies outside the archive")
        ranges.append((record.header_offset, length))
    headers: list[bytes] = []
    for start in range(0, len(ranges), _HEADER_BATCH):
        headers += source.read_many(ranges[start : start + _HEADER_BATCH])
    entries = [_check_local_header(source, *pair) for pair in zip(records, headers, strict=True)]
    _check_tiling(entries, directory_offset)
    return entries


def _check_local_header(source: ByteSource, record: CentralRecord, header: bytes) -> Entry:
    name, raw_name, known_flags, known_method, crc, compressed_size, whole_size, header_offset = record
    signature, _, flags, method, _, _, _, packed, size, name_length, extra_length = _LOCAL.unpack_from(header)
    if signature != b"PK\x03\x04":
        refuse_archive("a record has no local header")
    if flags != known_flags or method != known_method:
        refuse_archive("a local header contradicts the central directory")
    if name_length != len(raw_name) or header[_LOCAL.size :] != raw_name:
        refuse_archive("a local header has another name than the central directory")
    extra_offset = header_offset + len(header)
    if UNKNOWN_32 in (packed, size):
        packed, size = _wide_local_sizes(source.read_many([(extra_offset, extra_length)])[0], packed, size)
    deferred = flags & DESCRIPTOR_FLAG and packed == size == 0
    if not deferred and (packed != compressed_size or size != whole_size):
        refuse_archive("a local header contradicts the central directory")
    return Entry(name, method, flags, whole_size, compressed_size, crc, header_offset, extra_offset + extra_length)


def _wide_local_sizes(extra: bytes, packed: int, size: int) -> tuple[int, int]:
    """Return the sizes of a local header, from its ZIP64 extra field where they are too large for it."""
    if extra[:2] != b"\1\0" or len(extra) < 4 + 8 * ((packed == UNKNOWN_32) + (size == UNKNOWN_32)):
        refuse_archive("a local header lacks its ZIP64 sizes")
    position = 4
    if size == UNKNOWN_32:
        size = int.from_bytes(extra[position : position + 8], "little")
        position += 8
    if packed == UNKNOWN_32:
        packed = int.from_bytes(extra[position : position + 8], "little")
    return packed, size


def _check_tiling(entries: list[Entry], directory_offset: int) -> None:
    """Refuse gaps and overlaps: headers, contents and descriptors fill the file from its first byte."""
    position, descriptors = 0, (0,)
    for entry in sorted(entries, key=attrgetter("header_offset")):
        if entry.header_offset - position not in descriptors:
            refuse_archive("there are bytes between its records, or its records overlap")
        position = entry.data_offset + entry.compressed_size
        descriptors = _DESCRIPTOR_SIZES if entry.flags & DESCRIPTOR_FLAG else (0,)
    if directory_offset - position not in descriptors:
        refuse_archive("there are bytes between its records and its central directory")


def _inflate(raw: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(raw, size + 1)
    except zlib.error:
        refuse_archive("a record does not inflate")
    if len(content) != size or not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
        refuse_archive("a record does not inflate to its size")
    return content


def _inflate_some(inflater: Any, raw: bytes) -> bytes:
    try:
        return inflater.decompress(raw, _PIECE_BYTES)
    except zlib.error:
        refuse_archive("a record does not inflate")


def _inflate_start(raw: bytes, length: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, length)
    except zlib.error:
        refuse_archive("a record does not inflate")
