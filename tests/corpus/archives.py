"""Containers written field by field: zip archives that lie, legacy streams, tar files."""

import io
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field, replace

from corpus.assembly import PROTO_2, STOP, state_dict, value

MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
FOUR_FLOATS = struct.pack("<4f", 1, 2, 3, 4)


@dataclass(slots=True)
class Record:
    """One entry of a zip archive; what is None is told truthfully.

    Attributes:
        name: with its root.
        content: uncompressed.
        method: as in the central directory; 8 compresses the content.
        flags: general purpose bits, of both headers.
        deferred: the local header has no sizes, a data descriptor follows.
        align: the content starts at a multiple of this.
        central, local: fields that differ from the truth, by name: `name flags method crc packed size offset`.
        extra: of the central directory.
    """

    name: str
    content: bytes
    method: int = 0
    flags: int = 0x0800
    deferred: bool = False
    align: int = 1
    central: dict[str, int | bytes] = field(default_factory=dict[str, int | bytes])
    local: dict[str, int | bytes] = field(default_factory=dict[str, int | bytes])
    extra: bytes = b""

    def copy(self) -> "Record":
        """Return another one that may be changed."""
        return Record(
            self.name, self.content, self.method, self.flags, self.deferred, self.align,
            dict(self.central), dict(self.local), self.extra,
        )  # fmt: skip


@dataclass(slots=True)
class ZipLayout:
    """What surrounds the entries; the usual values are those of an ordinary archive."""

    before: bytes = b""
    between: bytes = b""
    after: bytes = b""
    comment: bytes = b""
    zip64: bool = True
    end: dict[str, int] = field(default_factory=dict[str, int])

    def copy(self) -> "ZipLayout":
        """Return another one that may be changed."""
        return replace(self, end=dict(self.end))


def _deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def zip_bytes(records: list[Record], layout: ZipLayout | None = None) -> bytes:
    """Return an archive of these records, in this order."""
    layout = layout or ZipLayout()
    out = bytearray(layout.before)
    entries: list[bytes] = []
    for record in records:
        packed = _deflate(record.content) if record.method == 8 else record.content
        true = {
            "name": record.name.encode("utf-8", "surrogatepass"),
            "flags": record.flags | (8 if record.deferred else 0),
            "method": record.method,
            "crc": zlib.crc32(record.content),
            "packed": len(packed),
            "size": len(record.content),
            "offset": len(out),
        }
        late = {"crc": 0, "packed": 0, "size": 0} if record.deferred else {}
        out += _local_header({**true, **late, **record.local}, len(out), record.align) + packed
        if record.deferred and packed:
            out += struct.pack("<4s3I", b"PK\x07\x08", true["crc"], len(packed), len(record.content))
        entries.append(_central_entry({**true, **record.central}, record.extra))
    out += layout.between
    directory = b"".join(entries)
    out += _end_records(len(entries), len(directory), len(out), directory, layout)
    return bytes(out)


def _local_header(fields: dict[str, int | bytes], at: int, align: int) -> bytes:
    name = fields["name"]
    assert isinstance(name, bytes)
    padding = b""
    if align > 1:
        room = -(at + 30 + len(name) + 4) % align
        padding = struct.pack("<2sH", b"FB", room) + b"Z" * room
    numbers = [fields[key] for key in ("crc", "packed", "size")]
    flags, method = fields["flags"], fields["method"]
    return (
        struct.pack("<4s5H3I2H", b"PK\3\4", 0, flags, method, 0, 0, *numbers, len(name), len(padding)) + name + padding
    )


def _central_entry(fields: dict[str, int | bytes], extra: bytes) -> bytes:
    name = fields["name"]
    assert isinstance(name, bytes)
    numbers = [fields[key] for key in ("crc", "packed", "size")]
    head = struct.pack("<4s6H3I", b"PK\1\2", 0, 0, fields["flags"], fields["method"], 0, 0, *numbers)
    tail = struct.pack("<5H2I", len(name), len(extra), 0, 0, 0, 0, fields["offset"])
    return head + tail + name + extra


def _end_records(count: int, length: int, offset: int, directory: bytes, layout: ZipLayout) -> bytes:
    end = {"count": count, "length": length, "offset": offset, **layout.end}
    out = directory
    if layout.zip64:
        start = offset + len(directory)
        numbers = (end["count"], end["count"], end["length"], end["offset"])
        out += struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 0, 0, 0, 0, *numbers)
        out += struct.pack("<4sIQI", b"PK\6\7", 0, start, 1)
    small = (end["count"] & 0xFFFF, end["count"] & 0xFFFF, end["length"] & 0xFFFFFFFF, end["offset"] & 0xFFFFFFFF)
    return out + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *small, len(layout.comment)) + layout.comment + layout.after


def checkpoint_records(pickled: bytes, root: str = "m") -> list[Record]:
    """Return the entries of a torch zip file with this `data.pkl` and one storage of four floats."""
    return [
        Record(f"{root}/data.pkl", pickled),
        Record(f"{root}/byteorder", b"little"),
        Record(f"{root}/data/0", FOUR_FLOATS, align=64),
        Record(f"{root}/version", b"3\n"),
    ]


def torch_zip(pickled: bytes, *more: Record) -> bytes:
    """Return a torch zip file around `pickled`."""
    return zip_bytes([*checkpoint_records(pickled), *more])


def good_zip() -> bytes:
    """Return a harmless torch zip file."""
    return torch_zip(PROTO_2 + state_dict() + STOP)


def legacy_pickles(pickled: bytes | None = None) -> list[bytes]:
    """Return the five pickles of a legacy stream; `pickled` is the fourth, with one storage of four floats."""
    return [
        PROTO_2 + MAGIC + STOP,
        PROTO_2 + value(1001) + STOP,
        PROTO_2 + value(SYSTEM) + STOP,
        pickled if pickled is not None else PROTO_2 + state_dict(legacy=True) + STOP,
        PROTO_2 + value(["0"]) + STOP,
    ]


def legacy_stream(pickles: list[bytes], storages: bytes | None = None) -> bytes:
    """Return a legacy file of these pickles, and one storage of four floats."""
    return b"".join(pickles) + (struct.pack("<q", 4) + FOUR_FLOATS if storages is None else storages)


def tar_members(pickled: bytes | None = None) -> dict[str, bytes]:
    """Return the members of a tar file with one float tensor of four elements, `pickled` the object."""
    described = (value((1, "cpu", b"ctorch\nFloatStorage\n")), value((5, 1, b"ctorch\nFloatTensor\n")))
    one = PROTO_2 + value(1) + STOP
    return {
        "sys_info": PROTO_2 + value(SYSTEM) + STOP,
        "pickle": pickled if pickled is not None else PROTO_2 + value({"w": value(5) + b"Q"}) + STOP,
        "tensors": one + PROTO_2 + described[1] + STOP + struct.pack("<i4x3q", 1, 4, 1, 0),
        "storages": one + PROTO_2 + described[0] + STOP + struct.pack("<q", 4) + FOUR_FLOATS
        + PROTO_2 + value([]) + STOP,
    }  # fmt: skip


def tar_bytes(members: dict[str, bytes]) -> bytes:
    """Return a tar archive as torch 0.1.9 wrote them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def rezipped(data: bytes, method: int = zipfile.ZIP_DEFLATED, replaced: dict[str, bytes] | None = None) -> bytes:
    """Return an archive as Python's zipfile packs it again, with other contents for some records (without root)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", method) as target:
        for name in source.namelist():
            target.writestr(name, (replaced or {}).get(name.partition("/")[2], source.read(name)))
    return buffer.getvalue()
