from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, update

from registry.errors import CollectionRefusedError, NotDeletedError
from storage.access import Caller
from storage.blobs.base import new_location
from storage.draft import begin
from storage.garbage import UNEXPLAINED_BYTES, collect
from storage.metadata.garbage import DOOM_DELAY
from storage.metadata.tables import ExtentRow, ObjectRow, UploadPinRow
from storage.versions import delete_version, purge_version

CALLER = Caller("tester", is_administrator=True)


def test_what_a_killed_push_left_is_collected_when_its_intent_ends(open_installation):
    stores = open_installation("one")
    location = new_location()
    stores.catalog.begin_write(location, "vision", "tester", datetime.now(UTC) - timedelta(seconds=1))
    stores.blobs.create(location).write(b"half of a file")
    collect(stores, CALLER)
    assert list(stores.blobs.iter_locations()) == []
    assert stores.catalog.list_doomed(datetime.now(UTC) + timedelta(days=1), 10) == []


def test_what_a_running_push_wrote_is_left_alone(open_installation):
    stores = open_installation("one")
    draft = begin(stores, CALLER, "vision", "net")
    incoming = draft.open_file("model.pt")
    incoming.write(b"more is coming")
    collect(stores, CALLER)
    incoming.write(b" and it comes")
    assert draft.close_file(incoming).size_bytes == 27
    draft.abandon()
    assert list(stores.blobs.iter_locations()) == []


def test_purging_frees_what_nothing_else_holds_once_no_issued_url_can_read_it(open_installation, push):
    stores = open_installation("one")
    push(stores)
    push(stores)
    push(stores, seed=1)
    for number in (1, 3):
        delete_version(stores, CALLER, "vision", "net", str(number))
    assert purge_version(stores, CALLER, "vision", "net", 1, "leaked").freed_bytes == 0
    assert purge_version(stores, CALLER, "vision", "net", 3, "leaked").freed_bytes > 0
    collect(stores, CALLER)
    assert len(list(stores.blobs.iter_locations())) == 2
    now = datetime.now(UTC)
    assert stores.catalog.list_doomed(now, 10) == []
    assert len(stores.catalog.list_doomed(now + DOOM_DELAY, 10)) == 1


def test_a_live_version_cannot_be_purged(open_installation, push):
    stores = open_installation("one")
    push(stores)
    with pytest.raises(NotDeletedError):
        purge_version(stores, CALLER, "vision", "net", 1, "leaked")


def test_a_dry_run_says_what_would_go_and_deletes_nothing(open_installation):
    stores = open_installation("one")
    location = new_location()
    stores.catalog.begin_write(location, "vision", "tester", datetime.now(UTC) + timedelta(minutes=1))
    with stores.blobs.create(location) as writer:
        writer.write(b"bytes")
        writer.commit()
    stores.catalog.cancel_write(location)
    stores.catalog.begin_write(new_location(), "vision", "tester", datetime.now(UTC) - timedelta(seconds=1))
    found = collect(stores, CALLER, dry_run=True)
    assert (found.expired_writes, found.removed_locations) == (1, 2)
    assert list(stores.blobs.iter_locations()) == [location]
    assert collect(stores, CALLER) == found
    assert list(stores.blobs.iter_locations()) == []


def lose_extents(stores, size_bytes):
    """Let every object be of that size, and lose the rows that say who has it."""

    def lose(session):
        session.execute(delete(ExtentRow))
        session.execute(update(ObjectRow).values(size_bytes=size_bytes))

    stores.catalog.database.write(lose)


def test_a_collection_refuses_what_no_deletion_explains_until_it_is_forced(open_installation, push):
    push(stores := open_installation("one"))
    lose_extents(stores, UNEXPLAINED_BYTES + 1)
    assert collect(stores, CALLER, dry_run=True).unexplained_bytes == UNEXPLAINED_BYTES + 1
    with pytest.raises(CollectionRefusedError, match=r"64\.0 MiB belong to no version, and nobody purged them"):
        collect(stores, CALLER)
    assert len(list(stores.catalog.iter_objects())) == 1
    assert collect(stores, CALLER, is_forced=True).unused_objects == 1


def test_a_little_that_nothing_explains_stops_no_collection(open_installation, push):
    push(stores := open_installation("one"))
    lose_extents(stores, UNEXPLAINED_BYTES)
    assert collect(stores, CALLER).unused_objects == 1


def test_what_a_purge_let_go_while_an_upload_held_it_is_explained(open_installation, push):
    push(stores := open_installation("one"))
    database = stores.catalog.database
    database.write(lambda session: session.execute(update(ObjectRow).values(size_bytes=UNEXPLAINED_BYTES + 1)))
    [stored] = stores.catalog.iter_objects()
    pin = UploadPinRow(upload_id="u", object_id=stored.object_id, expires_at=datetime.now(UTC))
    database.write(lambda session: session.add(pin))
    purge_version(stores, CALLER, "vision", "net", 1, "room", is_live=True)
    database.write(lambda session: session.execute(delete(UploadPinRow)))
    done = collect(stores, CALLER)
    assert (done.unused_objects, done.unexplained_bytes) == (1, 0)


def test_a_dry_run_foresees_what_the_end_of_the_grace_period_frees(open_installation, push):
    push(stores := open_installation("one"))
    push(stores)
    push(stores, seed=1)
    for number in (1, 3):
        delete_version(stores, CALLER, "vision", "net", str(number))
    later = datetime.now(UTC) + stores.grace + timedelta(hours=1)
    foreseen = collect(stores, CALLER, dry_run=True, now=later)
    done = collect(stores, CALLER, now=later)
    [kept] = stores.catalog.iter_objects()
    assert (foreseen.purged_versions, foreseen.unused_bytes) == (2, kept.size_bytes)
    assert (done.purged_versions, done.unused_bytes) == (2, kept.size_bytes)
    assert (done.removed_locations, done.removed_bytes) == (1, kept.size_bytes)
