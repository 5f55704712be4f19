"""Fine-tunes in several objects, on every backend and both databases: kept, told, collected, rebuilt."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from behind import in_pairs
from deltas import announce, claim, net, saved, sent_of
from migrated import migrated_sqlite
from sqlalchemy import func, select

from registry.digest import StreamDigests, blake3_digest, sha256_digest
from registry.schema import VersionCreate
from registry.uploads import UploadCreate
from storage import midstates
from storage.access import Caller
from storage.admission import sight_of
from storage.blobs.base import new_location
from storage.digesting import digest_received
from storage.draft import begin
from storage.fsck import fsck
from storage.garbage import collect
from storage.metadata.records import PlannedExtent, Source
from storage.metadata.tables import ExtentRow, ManifestRow, ObjectRow, StorageRow, UploadPinRow
from storage.publish import publish
from storage.push import Assembled, Received
from storage.read import get_artifact, get_manifest, get_version, iter_range
from storage.rebuild import rebuild
from storage.recording import write_due_records
from storage.uploads.completing import begin_completing, complete
from storage.uploads.parts import open_part
from storage.uploads.planning import plan_upload
from storage.uploads.reuse import ranges_to_send
from storage.versions import purge_version

CALLER = Caller("tester", is_administrator=True)
TUNED = [saved(net(7, head=head, statistics=head // 2)) for head in range(4)]


def push(stores, data, model="net", path="model.pt", tiles=None):
    """Push a file by plan; return the version, and how many bytes were sent."""
    create = {"metadata": {"artifacts": {path: announce(data)}}, "tiles": {path: tiles or claim(data)}}
    asked = UploadCreate.model_validate({**create, "direct": False})
    upload = plan_upload(stores, CALLER, "vision", model, asked, None)
    [file] = upload.files
    pack = data if file.extents is None else sent_of(data, ranges_to_send(file.extents))
    if pack:
        _, writer = open_part(stores, CALLER, upload, 0, 1)
        with writer:
            writer.write([pack])
            writer.keep()
    return complete(begin_completing(stores, CALLER, "vision", model, upload.id, "holder")), len(pack)


def push_whole(stores, data):
    """Push a file in one request."""
    draft = begin(stores, CALLER, "vision", "net")
    incoming = draft.open_file("model.pt")
    incoming.write(data)
    draft.close_file(incoming)
    return publish(draft, VersionCreate())


def read(stores, number, offset=0, length=None, model="net", path="model.pt"):
    artifact = get_artifact(stores, CALLER, "vision", model, str(number), path)
    length = artifact.info.size_bytes - offset if length is None else length
    return b"".join(iter_range(stores.blobs, artifact.extents, offset, length))


def rows(stores, row):
    return stores.catalog.database.read(lambda session: session.scalar(select(func.count()).select_from(row)))


@in_pairs
def test_fine_tunes_outlive_their_base_and_a_lost_database(behind, database, tmp_path):
    with behind.stores(migrated_sqlite(tmp_path / "lost.sqlite")) as stores:
        sent = [push(stores, data)[1] for data in TUNED]
        assert sent[0] == len(TUNED[0])
        assert max(sent[1:]) < 0.05 * len(TUNED[0])
        purge_version(stores, CALLER, "vision", "net", 1, "room", is_live=True)
        collect(stores, CALLER, now=datetime.now(UTC) + timedelta(hours=1))
        assert [read(stores, number) for number in (2, 3, 4)] == TUNED[1:]
        assert read(stores, 4, 70_000, 300_000) == TUNED[3][70_000:370_000]
        assert list(fsck(stores, CALLER, reads_bytes=True)) == []
        before = [get_artifact(stores, CALLER, "vision", "net", str(number), "model.pt") for number in (2, 3, 4)]
        assert [len(each.extents) > 1 for each in before] == [True] * 3
        write_due_records(stores)

    with behind.stores(database, adopts_registry=True) as stores:
        assert [(each.problem, each.differences) for each in rebuild(stores, CALLER)] == [(None, ())] * 3
        after = [get_artifact(stores, CALLER, "vision", "net", str(number), "model.pt") for number in (2, 3, 4)]
        assert after == before
        assert [read(stores, number) for number in (2, 3, 4)] == TUNED[1:]
        assert push(stores, TUNED[2])[1] == 0  # it is known again how everything is cut
        for number in (2, 3, 4, 5):
            purge_version(stores, CALLER, "vision", "net", number, "room", is_live=True)
        collect(stores, CALLER, now=datetime.now(UTC) + timedelta(hours=1))
        assert list(stores.blobs.iter_locations()) == []


def test_a_restored_backup_has_fine_tunes_and_reuses_them(open_installation, tmp_path):
    stores = open_installation("one")
    for data in TUNED[:2]:
        push(stores, data)
    file = io.StringIO()
    stores.catalog.dump(file)
    other = open_installation("two")
    file.seek(0)
    other.catalog.load(file.readlines(), CALLER.actor, keep_tokens=False)
    tuned = get_artifact(other, CALLER, "vision", "net", "2", "model.pt")
    assert tuned.extents == get_artifact(stores, CALLER, "vision", "net", "2", "model.pt").extents
    lengths = {f"blake3:{digest}": length for length, digest in claim(TUNED[1])}
    known = other.catalog.find_reusable("vision", lengths, sight_of(CALLER))
    assert [len(each.tiles) > 1 for each in known] == [True, True]


def test_fifty_fine_tunes_add_rows_for_what_changed_and_not_for_every_tensor(open_installation):
    stores = open_installation("one")
    push(stores, saved(net(7)))
    before = {row: rows(stores, row) for row in (ExtentRow, StorageRow, ObjectRow, ManifestRow)}
    for head in range(1, 51):
        push(stores, saved(net(7, head=head)))
    added = {row.__tablename__: rows(stores, row) - count for row, count in before.items()}
    assert added["storages"] == 50  # a head each, of 16 tensors
    assert added["objects"] == 50
    assert added["extents"] <= 50 * 4
    assert rows(stores, UploadPinRow) == 0


def test_two_uploads_of_one_fine_tune_are_stored_once(open_installation):
    stores = open_installation("one")
    push(stores, TUNED[0])
    create = {"metadata": {"artifacts": {"model.pt": announce(TUNED[1])}}, "tiles": {"model.pt": claim(TUNED[1])}}
    asked = UploadCreate.model_validate({**create, "direct": False})
    uploads = [plan_upload(stores, CALLER, "vision", "net", asked, None) for _ in range(2)]
    for upload in uploads:
        pack = sent_of(TUNED[1], ranges_to_send(upload.files[0].extents))
        _, writer = open_part(stores, CALLER, upload, 0, 1)
        with writer:
            writer.write([pack])
            writer.keep()
    for upload in uploads:
        complete(begin_completing(stores, CALLER, "vision", "net", upload.id, "holder"))
    collect(stores, CALLER, now=datetime.now(UTC) + timedelta(hours=1))
    assert rows(stores, ObjectRow) == 2
    assert len(list(stores.blobs.iter_locations())) == 2
    assert [read(stores, number) for number in (2, 3)] == [TUNED[1]] * 2


@pytest.fixture
def passed(open_installation, monkeypatch):
    """How many bytes each pass of digesting read."""
    monkeypatch.setattr(midstates, "STEP_BYTES", 100_000)
    counts = []
    take = StreamDigests._take_whole

    def count(self, view):
        counts.append(len(view))
        take(self, view)

    monkeypatch.setattr(StreamDigests, "_take_whole", count)
    return counts


@pytest.mark.parametrize("changed", [0, 7, 15])
def test_a_fine_tune_is_digested_from_about_where_it_parts_from_its_base(open_installation, passed, changed):
    stores = open_installation("one")
    state_dict = net(11)
    push(stores, saved(state_dict))
    name = list(state_dict)[changed]
    for generation in (2, 4, 6):
        state_dict[name] = state_dict[name] + 1
        tuned = saved(state_dict)
        del passed[:]

        version, sent = push(stores, tuned)

        assert sent < len(tuned)
        assert version.artifacts[0].sha256 == sha256_digest(tuned)
        assert version.artifacts[0].blake3 == blake3_digest(tuned)
        (manifest,) = get_manifest(stores, CALLER, "vision", "net", str(generation), None).artifacts
        for storage in manifest.manifest["storages"]:
            offset, length = storage["file_offset"], storage["nbytes"]
            assert storage["digest"] == blake3_digest(tuned[offset : offset + length])
        extents = get_artifact(stores, CALLER, "vision", "net", str(generation), "model.pt").extents
        assert len(tuned) - extents[0].length <= sum(passed) <= len(tuned) - extents[0].length + 200_000
        assert push(stores, tuned)[1] < 5_000  # its tiles are known


def test_what_was_not_digested_is_read_and_bytes_that_came_anew_are_forgotten(open_installation, passed):
    stores = open_installation("one")
    location = new_location()
    span, late, later = (10, 50_000), (290_000, 9_000), (250_000, 1_000)
    for number, ranges in ((1, [span]), (2, [])):
        content = bytes([number]) * 150_000 + bytes(range(250)) * 600
        stores.blobs.delete(location)
        with stores.blobs.create(location) as writer:
            writer.write(content)
            writer.commit()
        digest_received(stores, Received("net.bin", location, len(content), None, None, b""), ranges, lambda: None)
    assembled = Assembled((PlannedExtent(1, 0, len(content)),), (Source(1, "", location, len(content)),), None, 0)
    reuses = Received("net.bin", location, len(content), None, None, b"", assembled=assembled)

    del passed[:]
    digested = digest_received(stores, reuses, [span, late], lambda: None).stream
    assert digested.sha256 == sha256_digest(content)
    assert digested.find_range(*span) == blake3_digest(content[10:50_010])
    assert sum(passed) == 300_000
    del passed[:]

    digested = digest_received(stores, reuses, [span, later, late], lambda: None).stream

    assert digested.find_range(*later) == blake3_digest(content[250_000:251_000])
    assert sum(passed) == 100_000


def damage(stores, behind, number, which):
    """Change an object that a version has a part of, and let the registry find out; return where it is."""
    location = get_artifact(stores, CALLER, "vision", "net", str(number), "model.pt").extents[which].location
    content = behind.read(f"objects/{location}")
    behind.put(f"objects/{location}", content[:-1] + bytes([content[-1] ^ 1]))
    assert [each.where for each in fsck(stores, CALLER, reads_bytes=True, repairs=True)] == [location]
    return location


def damaged(stores, *numbers):
    """Return those of the versions that are told as damaged."""
    return [each for each in numbers if get_version(stores, CALLER, "vision", "net", str(each)).damaged]


@in_pairs
@pytest.mark.parametrize("send", [push, push_whole], ids=["by-plan", "whole"])
def test_a_fine_tune_that_comes_again_mends_every_version_that_has_the_same_file(behind, database, send):
    with behind.stores(database) as stores:
        for data in (TUNED[0], TUNED[1], TUNED[1], TUNED[2]):
            push(stores, data)
        base = damage(stores, behind, 1, 0)
        assert damaged(stores, 1, 2, 3, 4) == [1, 2, 3, 4]

        send(stores, TUNED[1])

        assert damaged(stores, 1, 2, 3, 4, 5) == [1, 4]
        assert [read(stores, number) for number in (2, 3, 5)] == [TUNED[1]] * 3
        send(stores, TUNED[2])
        assert damaged(stores, 1, 4) == [1]
        assert base in stores.blobs.iter_locations()
        send(stores, TUNED[0])
        assert damaged(stores, 1) == []
        write_due_records(stores)
        assert list(fsck(stores, CALLER, reads_bytes=True)) == []
        collect(stores, CALLER, now=datetime.now(UTC) + timedelta(days=2))
        assert base not in stores.blobs.iter_locations()
        assert [read(stores, number) for number in range(1, 8)] == [TUNED[each] for each in (0, 1, 1, 2, 1, 2, 0)]
