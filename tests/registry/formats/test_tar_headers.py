"""Headers of tar files that Python's tarfile, by which torch reads them, understands in another way than others do."""

import pytest
from corpus.archives import tar_members
from fuzzing.tar_mutations import Member, pack

from registry.errors import MalformedArtifactError
from registry.formats.reader import read
from registry.formats.source import BytesSource

MEMBERS = [Member(name.encode(), content) for name, content in tar_members().items()]


def trust(*members):
    return read(BytesSource(pack(list(members)))).inspection.trust


@pytest.mark.parametrize("field", ["mode", "owner", "group", "time", "major", "minor"])
@pytest.mark.parametrize("number", [b"zzz", b"\xff" * 8, b"\x80\1", b"1 2", b"-1", b"7\0x"])
def test_a_header_with_a_number_that_is_not_octal_is_refused(field, number):
    last = Member(b"storages", MEMBERS[-1].content, {field: number})
    with pytest.raises(MalformedArtifactError, match="not octal"):
        trust(*MEMBERS[:-1], last)


@pytest.mark.parametrize("field", ["mode", "owner", "group", "time", "major", "minor"])
@pytest.mark.parametrize("number", [b"", b" 644 \0", b"0000644"])
def test_a_header_with_an_octal_number_or_none_is_taken(field, number):
    last = Member(b"storages", MEMBERS[-1].content, {field: number})
    assert trust(*MEMBERS[:-1], last) == "tensors"


@pytest.mark.parametrize(
    "records",
    [
        b"12 path=pick\n", b"11 size=100\n", b"15 linkpath=abc\n", b"22 GNU.sparse.major=1\n",
        b"22 GNU.sparse.name=ab\n",
        b"25 GNU.sparse.map=0,1,2,3\n", b"21 hdrcharset=BINARY\n", b"9 uid=-1\n", b"9 mtime=1\n", b"mtime=1", b"\0",
        b"22 mtime=999999999999\n", b"11 mtime=1\n\n", b"16 mtime=1\npath=\n",
    ],
)  # fmt: skip
def test_an_extended_header_that_changes_what_a_member_is_or_is_not_well_formed_is_refused(records):
    with pytest.raises(MalformedArtifactError, match="extended"):
        trust(Member(b"pax", records, {"kind": b"x"}), *MEMBERS)


@pytest.mark.parametrize("records", [b"", b"11 mtime=1\n", b"20 mtime=1480.12345\n", b"12 uname=\xc3\xa9\n9 gid=12\n"])
def test_an_extended_header_of_times_and_owners_is_taken(records):
    assert trust(Member(b"pax", records, {"kind": b"x"}), *MEMBERS) == "tensors"


def test_an_extended_header_before_nothing_is_refused():
    with pytest.raises(MalformedArtifactError, match="extended"):
        trust(*MEMBERS, Member(b"pax", b"11 mtime=1\n", {"kind": b"x"}))
