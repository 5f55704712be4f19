"""Every format is changed often enough, from files that its reader reads."""

import io
import tarfile
from collections import Counter
from random import Random

import pytest
from corpus.archives import tar_members

from fuzzing.figures import Figures
from fuzzing.pool import Pool, Seen, kind_of
from fuzzing.small_programs import small_programs
from fuzzing.tar_mutations import _RECORDS, Member, _record, pack
from registry.formats.reader import read
from registry.formats.source import BytesSource

KINDS = ["zip", "legacy", "tar", "safetensors", "torchscript", "export", "package"]


def test_every_format_gets_its_share(seeds):
    rng, pool = Random(1), Pool(seeds)
    kinds = Counter(kind_of(pool.choose(rng)[1].mutated(rng)) for _ in range(1000))
    assert [kind for kind in KINDS if kinds[kind] < 15] == []


@pytest.mark.parametrize(
    ("name", "form", "tensors"),
    [
        ("small-torchscript", "torchscript", ["w", "b", "below.w"]),
        ("small-export", "torch-export", ["w", "b", "c"]),
        ("small-package", "torch-package", ["w"]),
    ],
)
def test_a_small_program_is_read_to_its_tensors(name, form, tensors):
    inspection = read(BytesSource(dict(small_programs())[name])).inspection
    assert (inspection.format, inspection.trust) == (form, "code")
    assert [each.name for each in inspection.tensors] == tensors
    assert inspection.unknown_records == []


def test_a_kept_file_is_changed_further_as_its_kind(seeds):
    pool = Pool(seeds)
    data = dict(small_programs())["small-export"]
    pool.keep("anything", data)
    assert pool.kept == [data]
    assert "anything" in {pool.choose(rng)[0] for rng in map(Random, range(300))}


def test_a_file_is_new_once():
    seen = Seen()
    assert [seen.add(data) for data in (b"a", b"b", b"a", b"b")] == [True, True, False, False]


def test_tar_files_are_packed_as_tarfile_reads_them():
    members = [Member(name.encode(), content) for name, content in tar_members().items()]
    pax = Member(b"pax", b"".join(map(_record, _RECORDS[:5])), {"kind": b"x"})
    with tarfile.open(fileobj=io.BytesIO(pack([*members, pax, members[0].copy()]))) as archive:
        assert archive.getnames() == [*tar_members(), "pickle"]
        assert archive.getmembers()[-1].pax_headers["comment"] == "x"
        assert archive.extractfile("storages").read() == tar_members()["storages"]


def test_the_figures_of_processes_add_up():
    one, other = Figures(executions=2, past=1, repeated=3, seconds=5.0), Figures(executions=4, past=3, seconds=2.0)
    one.add(other)
    assert (one.executions, one.past, one.repeated, one.seconds) == (6, 4, 3, 5.0)
    assert one.lines()[0].endswith("6 in 5 s (1/s)")
