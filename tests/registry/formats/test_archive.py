"""The zip reader takes what torch.save and zip tools write, and nothing that readers could disagree about."""

import io
import random
import re
import struct
import zipfile
import zlib

import pytest
import torch
import torch.utils.serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.archive import Archive
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.formats.source import BytesSource, FileSource


def open_archive(data, limits=DEFAULT_LIMITS):
    return Archive.open(BytesSource(data), limits)


class CountingSource(BytesSource):
    def __init__(self, data):
        super().__init__(data)
        self.requests = 0
        self.bytes_read = 0

    def read_many(self, ranges):
        self.requests += 1
        self.bytes_read += sum(length for _, length in ranges)
        return super().read_many(ranges)


def zip_of(members, compression=zipfile.ZIP_STORED):
    """A zip as Python writes it; members are (name, content) or (ZipInfo, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD = [("m/data.pkl", b"\x80\x02}."), ("m/version", b"3\n"), ("m/data/0", bytes(100))]


@pytest.mark.parametrize("alignment", [64, 4096])
def test_torchs_own_archives_open_and_their_offsets_are_right(alignment, tmp_path):
    save_config = torch.utils.serialization.config.save
    previous = save_config.storage_alignment
    save_config.storage_alignment = alignment
    try:
        torch.save({"a": torch.arange(10.0), "b": torch.zeros(0)}, tmp_path / "net.pt")
    finally:
        save_config.storage_alignment = previous
    data = (tmp_path / "net.pt").read_bytes()
    with FileSource(tmp_path / "net.pt") as source:
        archive = Archive.open(source, DEFAULT_LIMITS)
    assert archive.root == "net"
    offset = archive.data_offset(archive.entries["data/0"])
    assert offset % alignment == 0
    assert data[offset : offset + 40] == torch.arange(10.0).numpy().tobytes()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_of_plain_zip_tools_open(compression):
    archive = open_archive(zip_of(GOOD, compression))
    assert archive.read("data.pkl") == b"\x80\x02}."
    assert archive.read_starts(["data/0"], 10) == [bytes(10)]
    expected = None if compression else archive.entries["data/0"].data_offset
    assert archive.data_offset(archive.entries["data/0"]) == expected


def test_archives_written_to_a_pipe_open():
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = bytearray()

        def writable(self):
            return True

        def write(self, piece):
            self.data += piece
            return len(piece)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, content in GOOD:
            archive.writestr(name, content)
    assert open_archive(bytes(pipe.data)).read("version") == b"3\n"


def test_a_file_of_more_than_four_gibibytes_opens_in_a_few_reads(tmp_path):
    path = tmp_path / "big.pt"
    size = 4_400_000_000
    header = struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0x0808, 0, 0, 0, 0, 0, 0, 8, 0) + b"m/data/0"
    with path.open("wb") as file:
        file.write(header)
        file.seek(size, io.SEEK_CUR)
        file.write(b"PK\x07\x08" + struct.pack("<IQQ", 0, size, size))
        second = file.tell()
        small = struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0x0808, 0, 0, 0, 0, 0, 0, 10, 0) + b"m/data.pkl"
        file.write(small + b"\x80\x02}." + b"PK\x07\x08" + struct.pack("<IQQ", 0, 4, 4))
        start = file.tell()
        file.write(_central(b"m/data/0", 0xFFFFFFFF, 0, struct.pack("<2H2Q", 1, 16, size, size)))
        file.write(_central(b"m/data.pkl", 4, 0xFFFFFFFF, struct.pack("<2HQ", 1, 8, second)))
        end = file.tell()
        file.write(struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, end - start, start))
        file.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, end - start, 0xFFFFFFFF, 0))
    with FileSource(path) as source:
        archive = Archive.open(source, DEFAULT_LIMITS)
        assert archive.entries["data/0"].size == size
        assert archive.read("data.pkl") == b"\x80\x02}."


def _central(name, size, offset, extra):
    fields = (b"PK\x01\x02", 45, 45, 0x0808, 0, 0, 0, 0, size, size, len(name), len(extra), 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3I5H2I", *fields) + name + extra


def test_opening_takes_few_requests_and_reads_no_contents():
    buffer = io.BytesIO()
    torch.save({str(i): torch.zeros(1000) for i in range(200)}, buffer)
    source = CountingSource(buffer.getvalue())
    Archive.open(source, DEFAULT_LIMITS)
    assert source.requests <= 3
    assert source.bytes_read < 150_000


def flip(data, *, central=None, local=None, end=None):
    """Change bytes of the first central entry, the first local header, or the end record: {offset: bytes}."""
    changed = bytearray(data)
    for base, changes in (
        (data.index(b"PK\x01\x02"), central),
        (data.index(b"PK\x03\x04"), local),
        (data.rindex(b"PK\x05\x06"), end),
    ):
        for offset, content in (changes or {}).items():
            changed[base + offset : base + offset + len(content)] = content
    return bytes(changed)


TRUE_ZIP = zip_of(GOOD)

MANIPULATED = {
    "encryption flag in both": flip(TRUE_ZIP, central={8: b"\x01\x00"}, local={6: b"\x01\x00"}),
    "encryption flag in the local header only": flip(TRUE_ZIP, local={6: b"\x01\x00"}),
    "encryption flag in the directory only": flip(TRUE_ZIP, central={8: b"\x01\x00"}),
    "method of the local header": flip(TRUE_ZIP, local={8: b"\x08\x00"}),
    "method bzip2": flip(TRUE_ZIP, central={10: b"\x0c\x00"}, local={8: b"\x0c\x00"}),
    "sizes of the local header": flip(TRUE_ZIP, local={18: b"\x03\0\0\0\x03\0\0\0"}),
    "sizes of the directory": flip(TRUE_ZIP, central={20: b"\x03\0\0\0\x03\0\0\0"}),
    "two sizes of a stored record": flip(TRUE_ZIP, central={24: b"\x09\0\0\0"}),
    "local name": flip(TRUE_ZIP, local={30: b"m/safe.pkl"}),
    "junk before": b"PK\x03\x04junk" + TRUE_ZIP,
    "junk after": TRUE_ZIP + b"x",
    "comment": flip(TRUE_ZIP, end={20: b"\x01\x00"}) + b"c",
    "two archives": TRUE_ZIP + TRUE_ZIP,
    "count too small": flip(TRUE_ZIP, end={8: b"\x02\0\x02\0"}),
    "count too large": flip(TRUE_ZIP, end={8: b"\x04\0\x04\0"}),
    "several disks": flip(TRUE_ZIP, end={4: b"\x01\0"}),
    "directory offset": flip(TRUE_ZIP, end={16: b"\x05\0\0\0"}),
    "unix symlink": flip(TRUE_ZIP, central={4: b"\x14\x03", 38: struct.pack("<I", 0o120777 << 16)}),
    "offset outside": flip(TRUE_ZIP, central={42: b"\xff\xff\xff\x7f"}),
    "offset of another record": flip(TRUE_ZIP, central={42: struct.pack("<I", TRUE_ZIP.index(b"PK\x03\x04", 4))}),
    "missing ZIP64": flip(TRUE_ZIP, end={16: b"\xff\xff\xff\xff"}),
    "truncated": TRUE_ZIP[:-30],
    "empty": b"",
    "only an end": b"PK\x05\x06" + bytes(18),
    "two roots": zip_of([*GOOD, ("n/data/1", b"")]),
    "no root": zip_of([("data.pkl", b"N.")]),
    "empty root": zip_of([("/data.pkl", b"N.")]),
    "dots": zip_of([("../data.pkl", b"N."), ("../version", b"3")]),
    "dots inside": zip_of([*GOOD, ("m/data/../x", b"")]),
    "two names that differ in case": zip_of([*GOOD, ("m/DATA.PKL", b"N.")]),
    "folder": zip_of([*GOOD, ("m/data/", b"")]),
    "backslash": zip_of([*GOOD, ("m/xy.z", b"")]).replace(b"xy.z", b"x\\.z"),
    "nul": zip_of([*GOOD, ("m/xy.z", b"")]).replace(b"xy.z", b"x\x00.z"),
    "name that is not UTF-8": zip_of([*GOOD, ("m/xy.z", b"")]).replace(b"xy.z", b"x\xff.z"),
}


@pytest.mark.parametrize("data", MANIPULATED.values(), ids=MANIPULATED.keys())
def test_what_torch_never_writes_is_refused(data):
    with pytest.raises(MalformedArtifactError):
        open_archive(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused():
    with pytest.raises(MalformedArtifactError, match="one name"):
        open_archive(zip_of([*GOOD, ("m/data.pkl", b"N.")]))


def test_overlapping_records_are_refused():
    at = [each.start() for each in re.finditer(b"PK\x01\x02", TRUE_ZIP)]
    changed = bytearray(TRUE_ZIP)
    changed[at[1] + 42 : at[1] + 46] = TRUE_ZIP[at[0] + 42 : at[0] + 46]
    with pytest.raises(MalformedArtifactError):
        open_archive(bytes(changed))


def test_a_wrong_crc_is_no_reason_to_refuse():
    assert open_archive(flip(TRUE_ZIP, central={16: b"\1\2\3\4"})).read("data.pkl") == b"\x80\x02}."


def test_a_record_that_inflates_too_far_is_refused():
    bomb = zip_of([*GOOD, ("m/data/1", bytes(1_000_000))], zipfile.ZIP_DEFLATED)
    with pytest.raises(MalformedArtifactError, match="200 times"):
        open_archive(bomb)
    with pytest.raises(MalformedArtifactError, match="inflate to more than"):
        open_archive(zip_of(GOOD, zipfile.ZIP_DEFLATED), Limits(inflated_bytes=50))


def test_a_record_that_inflates_to_another_size_than_announced_is_refused():
    content = random.Random(0).randbytes(500)
    data = zip_of([("m/data.pkl", content)], zipfile.ZIP_DEFLATED)
    for announced in (499, 501):
        size = struct.pack("<I", announced)
        archive = open_archive(flip(data, central={24: size}, local={22: size}))
        with pytest.raises(MalformedArtifactError, match="inflate"):
            archive.read("data.pkl")


def test_bytes_after_a_deflated_stream_are_refused():
    packed = zlib.compress(bytes(50), wbits=-15) + b"hidden"
    data = zip_of([("m/data.pkl", bytes(len(packed)))])
    data = data.replace(bytes(len(packed)), packed, 1)
    sizes = struct.pack("<II", len(packed), 50)
    data = flip(data, central={10: b"\x08\0", 20: sizes}, local={8: b"\x08\0", 18: sizes})
    with pytest.raises(MalformedArtifactError, match="inflate"):
        open_archive(data).read("data.pkl")


def deflated_storage(packed, size):
    """An archive whose record `data/0` is this deflated stream, and says that it inflates to so many bytes."""
    data = zip_of([("m/data/0", b"\xff" * len(packed))]).replace(b"\xff" * len(packed), packed, 1)
    sizes = struct.pack("<II", len(packed), size)
    return flip(data, central={10: b"\x08\0", 20: sizes}, local={8: b"\x08\0", 18: sizes})


CONTENT = random.Random(3).randbytes(1 << 21)
PACKED = zlib.compress(CONTENT, 1, -15)


def test_a_compressed_storage_is_inflated_to_its_last_byte():
    archive = open_archive(deflated_storage(PACKED, len(CONTENT)))

    archive.check_inflates(archive.entries["data/0"])


@pytest.mark.parametrize(
    ("packed", "size"),
    [
        (PACKED, len(CONTENT) - 1),
        (PACKED, len(CONTENT) + 1),
        (PACKED[:-10], len(CONTENT)),
        (PACKED + b"hidden", len(CONTENT)),
        (PACKED + bytes(3 << 20), len(CONTENT)),
        (b"\xff" + PACKED[1:], len(CONTENT)),
    ],
    ids=["shorter", "longer", "truncated", "followed", "followed by much", "no stream"],
)
def test_a_compressed_storage_that_does_not_inflate_to_its_size_is_refused(packed, size):
    archive = open_archive(deflated_storage(packed, size))

    with pytest.raises(MalformedArtifactError, match="inflate"):
        archive.check_inflates(archive.entries["data/0"])


def test_too_many_records_are_refused():
    with pytest.raises(MalformedArtifactError, match="more than 2 records"):
        open_archive(TRUE_ZIP, Limits(archive_entries=2))


def test_an_unknown_or_too_large_record_is_refused():
    archive = open_archive(TRUE_ZIP)
    for name, limit in (("nothing", None), ("data/0", 99)):
        with pytest.raises(MalformedArtifactError):
            archive.read(name, limit)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(TRUE_ZIP) - 1), byte=st.integers(0, 255), cut=st.integers(0, 3))
def test_any_changed_byte_ends_in_an_archive_or_a_named_error(position, byte, cut):
    data = bytearray(TRUE_ZIP)
    data[position] = byte
    try:
        archive = open_archive(bytes(data[: len(data) - cut]))
        assert len(archive.entries) == 3
    except (MalformedArtifactError, UnsafeArtifactError) as error:
        assert error.detail  # noqa: PT017 - an archive, or the error
