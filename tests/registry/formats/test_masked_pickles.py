"""What does harm is unsafe also where a file is broken, lies, or hides a pickle; what only looks so is not blamed."""

import io
import struct
import zipfile

import pytest
import safetensors.torch
import tar_files
import torch
from torch_archives import repack

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.reader import read
from registry.formats.source import BytesSource

# What is written here warns in many ways.
pytestmark = pytest.mark.filterwarnings("ignore")

HARMFUL = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."


def verdict(data):
    try:
        return read(BytesSource(data)).inspection.trust
    except UnsafeArtifactError:
        return "unsafe"
    except MalformedArtifactError:
        return "malformed"


def saved(value=None):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)} if value is None else value, buffer)
    return buffer.getvalue()


def zip_of(*members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


LIES = {
    "cut off": lambda data: data[:-30],
    "bytes behind it": lambda data: data + b"junk",
    "a comment": lambda data: data[:-2] + struct.pack("<H", 4) + b"more",
    "another local name": lambda data: data.replace(b"data.pkl", b"data.pkx", 1),
    "an encryption flag": lambda data: data[:6] + bytes([data[6] | 1]) + data[7:],
    "two entries of one name": lambda data: zip_of(("m/data.pkl", HARMFUL), ("m/DATA.PKL", HARMFUL)),
    "two roots": lambda data: zip_of(("m/data.pkl", HARMFUL), ("n/version", b"3")),
    "no root": lambda data: zip_of(("data.pkl", HARMFUL), ("version", b"3")),
    "only upper case": lambda data: zip_of(("m/DATA.PKL", HARMFUL), ("m/version", b"3")),
    "bzip2": lambda data: (
        zip_of(("m/data.pkl", HARMFUL), ("m/b", b"abc"), compression=zipfile.ZIP_STORED)
        + zip_of(("m/data.pkl", HARMFUL), compression=zipfile.ZIP_BZIP2)
    ),
    "deflated, and cut off": lambda data: zip_of(
        ("m/data.pkl", HARMFUL), ("m/version", b"3"), compression=zipfile.ZIP_DEFLATED
    )[:-9],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_archive_is_malformed_and_says_what_it_would_do(lie):
    data = zip_of(("m/data.pkl", HARMFUL), ("m/version", b"3\n"))
    with pytest.raises(MalformedArtifactError, match=r"would do harm: os\.system") as caught:
        read(BytesSource(LIES[lie](data)))
    assert caught.value.extra["globals"] == ["os.system"]


def test_a_pickle_that_was_read_before_the_archive_is_found_to_lie_is_unsafe():
    assert verdict(zip_of(("m/data.pkl", HARMFUL))) == "unsafe"
    assert verdict(zip_of(("m/data.pkl", HARMFUL), ("m/version", b"3"), ("m/inner", b"PK\x03\x04"))) == "unsafe"


@pytest.mark.parametrize("lie", ["cut off", "bytes behind it", "a comment", "another local name", "an encryption flag"])
def test_a_lying_archive_that_would_do_no_harm_is_not_said_to(lie):
    with pytest.raises(MalformedArtifactError) as caught:
        read(BytesSource(LIES[lie](saved())))
    assert not caught.value.extra


def test_a_broken_tar_file_says_what_it_would_do():
    members = {**tar_files.members_of({"a": torch.ones(2)}), "pickle": HARMFUL}
    with pytest.raises(MalformedArtifactError, match=r"would do harm: os\.system"):
        read(BytesSource(tar_files.pack({**members, "more": b""})))
    assert verdict(tar_files.pack({**tar_files.members_of({"a": torch.ones(2)}), "more": b""})) == "malformed"


def test_a_file_that_is_tar_in_its_middle_and_a_pickle_at_its_start_is_unsafe():
    start = HARMFUL[:-1] + b"0X" + struct.pack("<I", 400)
    polyglot = start.ljust(257, b" ") + b"ustar" + b" " * 1000
    assert verdict(polyglot) == "unsafe"


def test_a_safetensors_file_that_is_a_harmful_pickle_as_well_is_unsafe():
    # SHORT_BINSTRING "U", 255: it hides the header's beginning; what follows runs.
    lead = b'{"__metadata__":{"x":"'
    filler = b"a" * (255 + 2 - 8 - len(lead))
    header = lead + filler + b"0cos\nsystem\n." + b'"}}'
    header = header.ljust(0x55 | 0xFF << 8, b" ")
    data = struct.pack("<Q", len(header)) + header
    assert verdict(data) == "unsafe"


def with_record(content, name="notes.bin"):
    return repack(saved(), lambda _, old: old, **{name: content})


@pytest.mark.parametrize(
    "content",
    [
        b"cliff\ncoral reef\nstreet sign\n",
        b"cat-x 1\ndog\n",
        b"car wheel\ncassette player\n",
        b"\x82\x07binary data that begins as EXT1 does",
        b"\x84\x07\x00\x00\x00 and as EXT4 does",
        b"Violin\nVase\nVan\n",
        b"{}",
        b"N.",
        b"X\xff\xff\xff\x7f" + bytes(range(256)) * 40,
        b"(c) 2024 somebody\nall rights reserved",
        bytes(range(256)) * 300,
    ],
)
def test_an_unknown_record_that_only_looks_like_a_pickle_is_kept(content):
    inspection = read(BytesSource(with_record(content))).inspection
    assert (inspection.trust, inspection.unknown_records) == ("tensors", ["notes.bin"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HARMFUL, "unsafe"),
        (b"cos\nsystem\n(S'true'\ntR.", "unsafe"),
        (b"S'" + b"a" * 200_000 + b"'\n0cos\nsystem\n(S'true'\ntR.", "unsafe"),
        (b"\x80\x02}.", "malformed"),
        (b"S'" + b"a" * 200_000 + b"'\n0cmine\nNet\n)R.", "malformed"),
        (b"N0" * 300_000 + b"cos\nsystem\n(S'true'\ntR.", "unsafe"),
        (b"\x80\x02\x82\x01.", "unsafe"),
    ],
)
def test_a_pickle_under_another_name_is_found_however_late_it_speaks(content, expected):
    assert verdict(with_record(content)) == expected


def test_many_records_that_run_as_pickles_end_at_a_limit():
    records = {f"r{number}": b"N0" * 50_000 for number in range(100)}
    data = zip_of(
        ("m/data.pkl", b"\x80\x02}."),
        ("m/version", b"3"),
        *((f"m/{name}", content) for name, content in records.items()),
        compression=zipfile.ZIP_STORED,
    )
    assert verdict(data) == "malformed"


def test_real_safetensors_files_are_not_taken_for_pickles():
    for count in range(40):
        data = safetensors.torch.save({f"layer.{number}": torch.ones(1) for number in range(count)})
        assert verdict(data) == "tensors"
