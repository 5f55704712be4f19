"""Zip archives changed consistently, or made to lie in one field."""

import struct
from collections.abc import Callable
from random import Random

from corpus.archives import Record, ZipLayout

_NAMES = (
    "data.pkl", "DATA.PKL", "data/0", "data/1", "data/00", "version", ".data/version", "byteorder", "constants.pkl",
    "archive_format", ".data/extern_modules", "code/__torch__.py", "extra/x", "notes.txt", "x.so",
    "data/sample_inputs/a.pt",
)  # fmt: skip
_BAD_NAMES = ("m/../x", "/x", "m//x", "m\\x", "m/x\0y", "m/", "x", "m/./x", "n/data.pkl", "m/\udce9")


def mutate_archive(rng: Random, records: list[Record], layout: ZipLayout) -> None:
    """Change the records, or what surrounds them, in one way."""
    rng.choice(_CHANGES)(rng, records, layout)


def _drop(rng: Random, records: list[Record], _: ZipLayout) -> None:
    del records[rng.randrange(len(records))]


def _repeat(rng: Random, records: list[Record], _: ZipLayout) -> None:
    again = rng.choice(records).copy()
    if rng.random() < 0.7:
        again.name = rng.choice((again.name.upper(), again.name, again.name + "x", again.name.replace("m/", "M/")))
    records.insert(rng.randrange(len(records) + 1), again)


def _rename(rng: Random, records: list[Record], _: ZipLayout) -> None:
    record = rng.choice(records)
    root = record.name.partition("/")[0]
    record.name = f"{root}/{rng.choice(_NAMES)}" if rng.random() < 0.7 else rng.choice(_BAD_NAMES)


def _add(rng: Random, records: list[Record], _: ZipLayout) -> None:
    root = records[0].name.partition("/")[0]
    content = rng.choice(
        (b"", b"x", b"little", b"big", b"3\n", b"\x80\x02N.", b"\x80\x02cos\nsystem\n.", b"PK\3\4", bytes(16))
    )
    records.insert(rng.randrange(len(records) + 1), Record(f"{root}/{rng.choice(_NAMES)}", content))


def _reorder(rng: Random, records: list[Record], _: ZipLayout) -> None:
    rng.shuffle(records)


def _exchange(rng: Random, records: list[Record], _: ZipLayout) -> None:
    one, other = rng.choice(records), rng.choice(records)
    one.content, other.content = other.content, one.content


def _compress(rng: Random, records: list[Record], _: ZipLayout) -> None:
    for record in records if rng.random() < 0.5 else [rng.choice(records)]:
        record.method = 8


def _defer(rng: Random, records: list[Record], _: ZipLayout) -> None:
    for record in records if rng.random() < 0.5 else [rng.choice(records)]:
        record.deferred = True


def _move_root(rng: Random, records: list[Record], _: ZipLayout) -> None:
    root = rng.choice(("archive", "..", "", "é", "a b", "/"))
    for record in records:
        record.name = f"{root}/{record.name.partition('/')[2]}"


def _flag(rng: Random, records: list[Record], _: ZipLayout) -> None:
    record = rng.choice(records)
    flags = record.flags ^ (1 << rng.randrange(16))
    match rng.randrange(3):
        case 0:
            record.flags = flags
        case 1:
            record.local["flags"] = flags
        case _:
            record.central["flags"] = flags


def _lie(rng: Random, records: list[Record], _: ZipLayout) -> None:
    record = rng.choice(records)
    fields = rng.choice((record.local, record.central))
    name = rng.choice(("name", "method", "crc", "packed", "size", "offset"))
    if name == "name":
        fields[name] = rng.choice(
            (record.name.upper(), record.name[:-1] + "x", "m/data.pkl", record.name + "\0")
        ).encode()
        return
    numbers = (0, 1, 8, len(record.content) + 1, max(0, len(record.content) - 1), 0xFFFF, 0xFFFFFFFF, 1 << 20)
    fields[name] = rng.choice((0, 8, 12, 14, 99)) if name == "method" else rng.choice(numbers)


def _lie_twice(rng: Random, records: list[Record], _: ZipLayout) -> None:
    """Both headers agree, the content does not."""
    record = rng.choice(records)
    size = max(0, len(record.content) + rng.choice((-4, -1, 1, 4, 64)))
    for fields in (record.local, record.central):
        fields.update(size=size, packed=size)


def _widen(rng: Random, records: list[Record], _: ZipLayout) -> None:
    """ZIP64 sizes in the directory, as for records of more than 4 GiB."""
    record = rng.choice(records)
    size = len(record.content)
    wide = struct.pack("<HHQQ", 1, 16, size, size)
    record.central.update(size=0xFFFFFFFF, packed=0xFFFFFFFF)
    record.extra = wide[: rng.choice((20, 20, 20, 12, 3))]


def _extra(rng: Random, records: list[Record], _: ZipLayout) -> None:
    rng.choice(records).extra = rng.choice(
        (b"up\5\0\1\0\0\0\0", b"FB\2\0ZZ", b"FB\xff\0", b"\1\0\0\0", b"\1\0\0\0\1\0\0\0", b"x")
    )


def _overlap(rng: Random, records: list[Record], _: ZipLayout) -> None:
    rng.choice(records).central["offset"] = rng.choice((0, 1, 30, 64, 200))


def _surround(rng: Random, _: list[Record], layout: ZipLayout) -> None:
    junk = rng.choice((b"x", b"PK\3\4", b"\x80\x02cos\nsystem\n.", bytes(64)))
    match rng.randrange(6):
        case 0:
            layout.before = junk
        case 1:
            layout.between = junk
        case 2:
            layout.after = junk
        case 3:
            layout.comment = junk
        case 4:
            layout.zip64 = False
        case _:
            layout.end[rng.choice(("count", "length", "offset"))] = rng.choice((0, 1, 2, 100, 0xFFFF, 0xFFFFFFFF))


_CHANGES: tuple[Callable[[Random, list[Record], ZipLayout], None], ...] = (
    _drop, _repeat, _rename, _add, _add, _reorder, _exchange, _compress, _defer, _move_root, _flag, _lie, _lie,
    _lie_twice,
    _widen, _extra, _overlap, _surround,
)  # fmt: skip
