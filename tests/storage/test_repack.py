"""Objects that purges left mostly dead are written anew, and nobody who reads notices."""

from datetime import UTC, datetime

import pytest
import torch
from behind import in_pairs
from deltas import announce, claim, saved, sent_of

from registry.uploads import UploadCreate
from storage.access import Caller
from storage.checking.findings import Kind
from storage.fsck import fsck
from storage.garbage import collect
from storage.metadata.garbage import DOOM_DELAY
from storage.metadata.tables import ObjectRow
from storage.read import get_artifact, iter_range
from storage.repack import repack
from storage.uploads.completing import begin_completing, complete
from storage.uploads.parts import open_part
from storage.uploads.planning import plan_upload
from storage.uploads.reuse import ranges_to_send
from storage.versions import purge_version

pytestmark = in_pairs
CALLER = Caller("tester", is_administrator=True)
TENSORS, SIDE = 8, 512


@pytest.fixture
def stores(behind, database):
    with behind.stores(database) as stores:
        yield stores


def state(*changed):
    """Return a state_dict of 8 tensors of 1 MiB; some of them have numbers of their own."""
    generators = {number: torch.Generator().manual_seed(100 + number) for number in range(TENSORS)}
    generators |= {number: torch.Generator().manual_seed(200 + number) for number in changed}
    return saved({f"{number}": torch.randn(SIDE, SIDE, generator=each) for number, each in generators.items()})


def plan(stores, data, model="net"):
    create = {"metadata": {"artifacts": {"model.pt": announce(data)}}, "tiles": {"model.pt": claim(data)}}
    return plan_upload(stores, CALLER, "vision", model, UploadCreate.model_validate({**create, "direct": False}), None)


def finish(stores, upload, data):
    [file] = upload.files
    sent = data if file.extents is None else sent_of(data, ranges_to_send(file.extents))
    for number in range(1, file.part_count + 1):
        offset, length = file.place(number)
        _, writer = open_part(stores, CALLER, upload, 0, number)
        with writer:
            writer.write([sent[offset : offset + length]])
            writer.keep()
    return complete(begin_completing(stores, CALLER, upload.team, upload.model, upload.id, "holder"))


def push(stores, data, model="net"):
    return finish(stores, plan(stores, data, model), data)


def read(stores, number, model="net"):
    artifact = get_artifact(stores, CALLER, "vision", model, str(number), "model.pt")
    return b"".join(iter_range(stores.blobs, artifact.extents, 0, artifact.info.size_bytes))


def purge(stores, number):
    purge_version(stores, CALLER, "vision", "net", number, "room", is_live=True)


def stored_bytes(stores):
    return stores.catalog.sum_stored()


def find_locations(stores, number):
    artifact = get_artifact(stores, CALLER, "vision", "net", str(number), "model.pt")
    return {extent.location for extent in artifact.extents}


def test_what_is_left_of_a_mostly_dead_object_is_written_anew_under_readers(stores):
    base, tuned, again = state(), state(*range(2, 8)), state(*range(2, 7))
    push(stores, base)
    push(stores, tuned)
    before = find_locations(stores, 2)
    assert len(before) == 2
    purge(stores, 1)
    whole = stored_bytes(stores)
    foreseen = repack(stores, CALLER, dry_run=True)
    reading = iter_range(
        stores.blobs, get_artifact(stores, CALLER, "vision", "net", "2", "model.pt").extents, 0, len(tuned)
    )
    first = next(reading)
    done = repack(stores, CALLER)
    assert (done.repacked_objects, done.repacked_bytes) == (1, foreseen.repacked_bytes)
    assert stored_bytes(stores) == whole - done.repacked_bytes
    assert done.repacked_bytes > 5 << 20
    assert first + b"".join(reading) == tuned
    assert read(stores, 2) == tuned
    assert len(find_locations(stores, 2) & before) == 1
    # What was kept is found again by who pushes next, and what was not kept is not promised to them.
    upload = plan(stores, again)
    assert upload.files[0].send_bytes < 2 << 20
    assert finish(stores, upload, again).number == 3
    assert read(stores, 3) == again
    push(stores, base)
    assert read(stores, 4) == base
    collect(stores, CALLER, now=datetime.now(UTC) + 2 * DOOM_DELAY)
    assert [read(stores, number) for number in (2, 3, 4)] == [tuned, again, base]
    assert list(fsck(stores, CALLER, reads_bytes=True)) == []
    assert repack(stores, CALLER).repacked_objects == 0


def test_what_an_open_upload_was_promised_stays_where_it_is(stores):
    base, tuned = state(), state(*range(1, 8))
    push(stores, base)
    push(stores, tuned)
    upload = plan(stores, state(*range(2, 8)))
    purge(stores, 1)
    assert repack(stores, CALLER).repacked_objects == 0
    assert finish(stores, upload, state(*range(2, 8))).number == 3
    assert [read(stores, 2), read(stores, 3)] == [tuned, state(*range(2, 8))]
    assert repack(stores, CALLER).repacked_objects == 1
    assert [read(stores, 2), read(stores, 3)] == [tuned, state(*range(2, 8))]


def test_an_upload_that_comes_while_an_object_is_copied_keeps_it(stores, monkeypatch):
    base, tuned, late = state(), state(*range(1, 8)), state(*range(3, 8))
    push(stores, base)
    push(stores, tuned)
    purge(stores, 1)
    replace, came = stores.catalog.replace_object, []

    def replace_late(*arguments):
        if not came:
            came.append(push(stores, late, "late"))
        return replace(*arguments)

    monkeypatch.setattr(stores.catalog, "replace_object", replace_late)
    assert repack(stores, CALLER).repacked_objects == 0
    assert (read(stores, 2), read(stores, 1, "late")) == (tuned, late)
    objects = {each.location for each in stores.catalog.iter_objects()}
    assert set(stores.blobs.iter_locations()) == objects


def test_damage_is_never_copied_under_a_new_digest(stores, behind):
    push(stores, state())
    push(stores, state(*range(1, 8)))
    old = find_locations(stores, 1)
    purge(stores, 1)
    [location] = old
    data = behind.read(f"objects/{location}")
    behind.put(f"objects/{location}", data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :])
    assert repack(stores, CALLER).repacked_objects == 0
    with stores.catalog.database.engine.connect() as connection:
        found = connection.execute(ObjectRow.__table__.select().where(ObjectRow.damaged_at.is_not(None))).all()
    assert [row.location for row in found] == [location]
    assert [each.kind for each in fsck(stores, CALLER)] == [Kind.OBJECT_CHANGED]


def test_an_object_that_is_mostly_alive_is_looked_at_once(stores, monkeypatch):
    push(stores, state())
    push(stores, state(7))
    purge(stores, 1)
    before = find_locations(stores, 2)
    assert repack(stores, CALLER).repacked_objects == 0
    assert find_locations(stores, 2) == before
    assert stores.catalog.find_shrunk(0) is None
