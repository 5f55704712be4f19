"""Every rule for containers, one line each: what breaks it, and what the error says.

torch itself loads most of these files, and other programs read them differently; `docs/reading-weights.md` says why
none is taken.
"""

import io
import struct
import zipfile

import pytest
import torch

from registry.errors import MalformedArtifactError
from registry.formats.limits import Limits
from registry.formats.reader import read
from registry.formats.source import BytesSource

PICKLED = b"\x80\x02}."
GOOD = [("m/data.pkl", PICKLED), ("m/version", b"3\n"), ("m/data/0", bytes(100))]


def zip_of(members, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


ZIP = zip_of(GOOD)


def torch_zip():
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)
    return buffer.getvalue()


def changed(data=ZIP, *, central=None, local=None, end=None):
    """The archive with other bytes in its first central entry, first local header or end record: {offset: bytes}."""
    found = bytearray(data)
    for base, changes in (
        (data.index(b"PK\x01\x02"), central),
        (data.index(b"PK\x03\x04"), local),
        (data.rindex(b"PK\x05\x06"), end),
    ):
        for offset, content in (changes or {}).items():
            found[base + offset : base + offset + len(content)] = content
    return bytes(found)


def in_end64(offset, content):
    """torch's own archive with other bytes in its ZIP64 end record."""
    data = torch_zip()
    start = data.rindex(b"PK\x06\x06") + offset
    return data[:start] + content + data[start + len(content) :]


def misplaced_end64():
    """torch's own archive whose locator names another place."""
    data = torch_zip()
    at = data.rindex(b"PK\x06\x07") + 8
    return data[:at] + struct.pack("<Q", 7) + data[at + 8 :]


def with_extra(extra):
    """An archive whose first central entry has an extra field."""
    data = ZIP
    start = data.index(b"PK\x01\x02")
    at = start + 46 + len("m/data.pkl")
    grown = data[: start + 30] + struct.pack("<H", len(extra)) + data[start + 32 : at] + extra + data[at:]
    end = grown.rindex(b"PK\x05\x06")
    (length,) = struct.unpack_from("<I", grown, end + 12)
    return grown[: end + 12] + struct.pack("<I", length + len(extra)) + grown[end + 16 :]


def renamed(old, new):
    assert len(old) == len(new)
    return zip_of([*GOOD, (f"m/{old}", b"")]).replace(old.encode(), new)


def deflated(content):
    return zip_of([*GOOD, ("m/big", content)], zipfile.ZIP_DEFLATED)


UNIX_LINK = {4: b"\x14\x03", 38: struct.pack("<I", 0o120777 << 16)}
SECOND = struct.pack("<I", ZIP.index(b"PK\x03\x04", 4))

RULES = {
    "the end record is at the very end": (ZIP + b"x", "does not end with its end record"),
    "there is no comment": (changed(end={20: b"\x01\x00"}) + b"c", "does not end with its end record"),
    "ZIP64 count equals the small one": (in_end64(32, struct.pack("<Q", 9)), "ZIP64|not well formed"),
    "ZIP64 size equals the small one": (in_end64(40, struct.pack("<Q", 9)), "contradicts the end record"),
    "ZIP64 offset equals the small one": (in_end64(48, struct.pack("<Q", 9)), "contradicts the end record"),
    "ZIP64 records are there when they are announced": (changed(end={16: b"\xff" * 4}), "ZIP64 records are missing"),
    "the ZIP64 end record is where its locator says": (misplaced_end64(), "not where the locator says"),
    "the directory ends at the end records": (changed(end={12: b"\x01\0\0\0"}), "does not end where"),
    "the first entry is at 0": (b"PK\x03\x04junk" + ZIP, "does not end where|bytes between"),
    "the count is that of the entries": (changed(end={8: b"\x02\0\x02\0"}), "announced number of entries"),
    "there is one disk": (changed(end={4: b"\x01\0"}), "several disks"),
    "names are UTF-8": (renamed("xy.z", b"x\xff.z"), "not UTF-8"),
    "names are unique": (zip_of([*GOOD, ("m/data.pkx", PICKLED)]).replace(b"pkx", b"pkl"), "one name"),
    "names are unique where case is ignored": (zip_of([*GOOD, ("m/DATA.PKL", PICKLED)]), "one name"),
    "there is one root": (zip_of([*GOOD, ("n/data/1", b"")]), "not in one folder"),
    "there is a root": (zip_of([("data.pkl", PICKLED), ("version", b"3")]), "relative path inside one folder"),
    "the root is not empty": (zip_of([("/data.pkl", PICKLED)]), "relative path inside one folder"),
    "no name holds NUL": (renamed("xy.z", b"x\x00.z"), "relative path inside one folder"),
    "no name holds a backslash": (renamed("xy.z", b"x\\.z"), "relative path inside one folder"),
    "no name goes upwards": (zip_of([*GOOD, ("m/../x", b"")]), "relative path inside one folder"),
    "the root does not go upwards": (zip_of([("../data.pkl", PICKLED)]), "relative path inside one folder"),
    "no name ends with a slash": (zip_of([*GOOD, ("m/data/", b"")]), "relative path|no regular file"),
    "files are regular": (changed(central=UNIX_LINK), "no regular file"),
    "flags are known: encryption": (changed(central={8: b"\x01\0"}, local={6: b"\x01\0"}), "encrypted or has unknown"),
    "flags are known: patch": (changed(central={8: b"\x20\0"}, local={6: b"\x20\0"}), "encrypted or has unknown"),
    "flags are known: strong encryption": (changed(central={8: b"\x40\0"}), "encrypted or has unknown"),
    "the method is store or deflate": (changed(central={10: b"\x0c\0"}, local={8: b"\x0c\0"}), "other than DEFLATE"),
    "the local name is the central one": (changed(local={30: b"m/safe.pkl"}), "another name"),
    "the local flags are the central ones": (changed(local={6: b"\x01\0"}), "contradicts the central directory"),
    "the local method is the central one": (changed(local={8: b"\x08\0"}), "contradicts the central directory"),
    "the local sizes are the central ones": (changed(local={18: b"\x03\0\0\0" * 2}), "contradicts the central"),
    "a stored record has one size": (changed(central={24: b"\x09\0\0\0"}), "two sizes"),
    "payloads come before the directory": (changed(central={42: b"\xff\xff\xff\x7f"}), "outside the archive"),
    "records do not overlap": (changed(central={42: SECOND}), "another name|overlap"),
    "extra fields give no second name": (with_extra(b"\x75\x70\x05\0\x01abcd"), "second name"),
    "extra fields are whole": (with_extra(b"\x75\x70\x09\0\x01"), "not well formed|cut off"),
    "a record inflates to 200 times its size at most": (deflated(bytes(1 << 20)), "inflates to more than 200 times"),
    "no unknown record is a pickle": (zip_of([*GOOD, ("m/config.json", PICKLED)]), "second pickle"),
    "no unknown record is a zip archive": (zip_of([*GOOD, ("m/x", b"PK\x03\x04")]), "archive inside the archive"),
    "no unknown record is a 7z archive": (zip_of([*GOOD, ("m/x", b"7z\xbc\xaf\x27\x1c")]), "archive inside"),
    "no unknown record is compressed by gzip": (zip_of([*GOOD, ("m/x", b"\x1f\x8b")]), "archive inside"),
    "no unknown record is a tar file": (zip_of([*GOOD, ("m/x", bytes(257) + b"ustar")]), "archive inside"),
    "nothing follows the pickle": (zip_of([("m/data.pkl", PICKLED + b"x"), *GOOD[1:]]), "follow the end"),
    "a checkpoint has a version": (zip_of([("m/data.pkl", PICKLED)]), "no record `version`"),
    "the version is one that torch knows": (zip_of([("m/data.pkl", PICKLED), ("m/version", b"11")]), "1 to 10"),
    "the byte order is one of two": (zip_of([*GOOD, ("m/byteorder", b"middle")]), "neither `little` nor `big`"),
    "the pickle has its exact name": (zip_of([("m/DATA.PKL", PICKLED), *GOOD[1:]]), "no record `data.pkl`"),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_file_that_breaks_a_rule_is_refused_in_its_words(rule):
    data, says = RULES[rule]
    with pytest.raises(MalformedArtifactError, match=says):
        read(BytesSource(data))


def test_the_file_that_the_rules_are_broken_in_is_a_good_one():
    inspection = read(BytesSource(ZIP)).inspection
    assert (inspection.trust, inspection.unknown_records) == ("tensors", ["data/0"])


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(archive_entries=2), "more than 2 records"),
        (Limits(inflated_bytes=50), "inflate to more than 50 bytes"),
        (Limits(inflate_ratio=1), "more than 1 times"),
        (Limits(pickle_bytes=3), "larger than 3 bytes"),
    ],
)
def test_a_limit_of_archives_is_kept(limits, says):
    with pytest.raises(MalformedArtifactError, match=says):
        read(BytesSource(zip_of(GOOD, zipfile.ZIP_DEFLATED)), limits)


def test_a_wrong_crc_is_not_held_against_a_file():
    assert read(BytesSource(changed(central={16: b"abcd"}))).inspection.trust == "tensors"
