import threading
from datetime import UTC, datetime, timedelta

import pytest
from actors import ADA
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from registry.errors import InternalError, NotDeletedError, VersionInUseError, VersionNotFoundError
from storage.metadata.garbage import DOOM_DELAY
from storage.metadata.records import Collected
from storage.metadata.tables import ObjectRow, UploadPinRow

MODEL = ("vision", "resnet50")


def now():
    return datetime.now(UTC)


def purge(catalog, number, model=MODEL):
    catalog.delete_version(*model, number, ADA)
    return catalog.purge_version(*model, number, ADA, "room")


def pin(catalog, **row):
    catalog.database.write(lambda session: session.add(UploadPinRow(**row)))


def test_the_database_refuses_to_lose_an_object_that_an_artifact_lies_in(catalog, push, rows):
    push()
    with pytest.raises(InternalError):
        catalog.database.write(lambda session: session.execute(delete(ObjectRow)))
    assert rows(ObjectRow) == 1


def test_the_bytes_of_a_purged_object_stay_until_every_url_is_dead(catalog, prepare):
    new = prepare()
    catalog.publish(new)
    purge(catalog, 1)
    assert catalog.list_doomed(now() + DOOM_DELAY / 2, 10) == []
    assert catalog.list_doomed(now() + DOOM_DELAY, 10) == [new.artifacts[0].location]


def test_a_pinned_object_outlives_its_last_version(catalog, push, rows):
    push()
    [object_id] = catalog.database.read(lambda session: [row.id for row in session.query(ObjectRow)])
    pin(catalog, upload_id="u", object_id=object_id, expires_at=now())
    assert purge(catalog, 1).still_held_bytes == len(b"weights")
    assert catalog.doom_unused_objects(now(), 10) == Collected(0, 0)
    with pytest.raises(InternalError):
        catalog.database.write(lambda session: session.execute(delete(ObjectRow)))
    catalog.database.write(lambda session: session.execute(delete(UploadPinRow)))
    assert catalog.doom_unused_objects(now(), 10) == Collected(1, len(b"weights"))
    assert rows(ObjectRow) == 0


def test_a_purged_object_that_comes_again_lies_at_its_new_location(catalog, push, prepare):
    push()
    purge(catalog, 1)
    new = prepare()
    catalog.publish(new)
    [extent] = catalog.get_artifact(*MODEL, "2", "model.pt").extents
    assert extent.location == new.artifacts[0].location
    assert extent.location not in catalog.list_doomed(now() + timedelta(days=1), 10)


def test_the_same_bytes_again_take_the_place_of_damaged_ones(catalog, push, prepare):
    push()
    [stored] = catalog.iter_objects()
    assert catalog.mark_damaged(stored.object_id, stored.location, now())
    assert catalog.get_version(*MODEL, "1").damaged == ["model.pt"]
    assert catalog.get_model(*MODEL).damaged_versions == 1
    assert catalog.get_artifact(*MODEL, "1", "model.pt").is_damaged
    new = prepare("vision/other")
    catalog.publish(new)
    assert catalog.get_version(*MODEL, "1").damaged == []
    [extent] = catalog.get_artifact(*MODEL, "1", "model.pt").extents
    assert extent.location == new.artifacts[0].location
    assert catalog.list_doomed(now() + DOOM_DELAY, 10) == [stored.location]


def test_damaged_bytes_of_one_team_are_not_mended_by_another(catalog, push):
    push()
    [stored] = catalog.iter_objects()
    catalog.mark_damaged(stored.object_id, stored.location, now())
    push("audio/net")
    assert catalog.get_version(*MODEL, "1").damaged == ["model.pt"]


def test_a_mark_for_bytes_that_lie_elsewhere_by_now_changes_nothing(catalog, push):
    push()
    [stored] = catalog.iter_objects()
    assert not catalog.mark_damaged(stored.object_id, "elsewhere", now())
    assert catalog.get_version(*MODEL, "1").damaged == []


def test_forgotten_locations_are_listed_no_more(catalog):
    for location in ("a", "b", "c"):
        catalog.begin_write(location, "vision", "ada", now())
    assert catalog.doom_expired_writes(now(), 2) == 2
    assert catalog.doom_expired_writes(now(), 2) == 1
    doomed = catalog.list_doomed(now(), 2)
    catalog.forget_doomed(doomed)
    assert sorted(doomed + catalog.list_doomed(now(), 9)) == ["a", "b", "c"]
    assert len(catalog.list_doomed(now(), 9)) == 1


def test_every_location_that_rows_name_is_known(catalog, prepare):
    new = prepare()
    catalog.publish(new)
    catalog.begin_write("writing", "vision", "ada", now() + timedelta(hours=1))
    catalog.begin_write("doomed", "vision", "ada", now())
    catalog.doom_expired_writes(now(), 10)
    for location in (new.artifacts[0].location, "writing", "doomed"):
        assert catalog.is_known(location)
    assert not catalog.is_known("foreign")
    assert catalog.find_known(["writing", "foreign"]) == {"writing"}


def test_every_object_is_iterated_once(catalog, push, monkeypatch):
    monkeypatch.setattr("storage.metadata.garbage._BATCH", 2)  # five objects in three steps
    versions = [push(files={"model.pt": b"%d" % n}) for n in range(5)]
    found = list(catalog.iter_objects())
    assert [each.sha256 for each in found] == [version.artifacts[0].sha256 for version in versions]
    assert {(each.team, each.size_bytes) for each in found} == {("vision", 1)}


def test_a_lease_has_one_holder_at_a_time(catalog):
    assert catalog.acquire_lease("gc", "one", now() + timedelta(minutes=1))
    assert not catalog.acquire_lease("gc", "two", now() + timedelta(minutes=1))
    assert catalog.acquire_lease("gc", "one", now() + timedelta(minutes=2))
    catalog.release_lease("gc", "two")
    assert not catalog.acquire_lease("gc", "two", now() + timedelta(minutes=1))
    catalog.release_lease("gc", "one")
    assert catalog.acquire_lease("gc", "two", now() - timedelta(seconds=1))
    assert catalog.acquire_lease("gc", "three", now() + timedelta(minutes=1))


def test_of_many_who_want_a_lease_exactly_one_gets_it(catalog, at_once):
    results = at_once(16, lambda n: catalog.acquire_lease("gc", f"holder{n}", now() + timedelta(minutes=1)))
    assert sorted(results) == [False] * 15 + [True]


def test_publishing_what_is_being_collected_never_names_doomed_bytes(catalog, prepare):
    new = [prepare() for _ in range(20)]
    done = threading.Event()
    failures = []

    def collect():
        while not done.is_set():
            for version in catalog.list_versions(*MODEL, include_deleted=True, limit=3).items:
                try:
                    purge(catalog, version.number)
                except (NotDeletedError, VersionNotFoundError):
                    pass
                except Exception as error:  # noqa: BLE001 - the test looks at whatever it is
                    failures.append(error)

    catalog.publish(new[0])
    collector = threading.Thread(target=collect)
    collector.start()
    numbers = [catalog.publish(each).number for each in new[1:]]
    done.set()
    collector.join()
    assert failures == []
    assert numbers == list(range(2, 21))
    assert_nothing_named_is_doomed(catalog, "resnet50")


def assert_nothing_named_is_doomed(catalog, model):
    doomed = set(catalog.list_doomed(now() + timedelta(days=1), 1000))
    known = {stored.location for stored in catalog.iter_objects()}
    assert known.isdisjoint(doomed)
    for version in catalog.list_versions("vision", model, include_deleted=True).items:
        for artifact in version.artifacts:
            assert version.purged_at is None
            if version.deleted_at is None:
                stored = catalog.get_artifact("vision", model, str(version.number), artifact.path)
                assert {extent.location for extent in stored.extents} <= known


STEPS = st.one_of(
    st.tuples(st.just("push"), st.sampled_from([b"a", b"b"]), st.booleans()),
    st.tuples(st.sampled_from(["delete", "restore", "purge"]), st.integers(1, 4)),
    st.tuples(st.sampled_from(["collect", "delete_model"])),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=10))
def test_no_sequence_of_steps_loses_an_object_that_a_version_names(catalog, push, steps):
    first = push("vision/fresh").number
    catalog.delete_model("vision", "fresh", ADA)
    push("vision/fresh")
    for step, *arguments in steps:
        try:
            take_step(catalog, push, first, step, *arguments)
        except (NotDeletedError, VersionInUseError, VersionNotFoundError):
            continue
        assert_nothing_named_is_doomed(catalog, "fresh")


def take_step(catalog, push, first, step, *arguments):
    match step, *arguments:
        case "push", data, named:
            push("vision/fresh", files={"model.pt": data}, aliases=["prod"] if named else [])
        case "delete", number:
            catalog.delete_version("vision", "fresh", first + number, ADA)
        case "restore", number:
            catalog.restore_version("vision", "fresh", first + number, ADA)
        case "purge", number:
            catalog.purge_version("vision", "fresh", first + number, ADA, "room")
        case ("collect",):
            catalog.doom_unused_objects(now(), 10)
        case ("delete_model",):
            catalog.delete_model("vision", "fresh", ADA)
            push("vision/fresh")


def test_doomed_locations_can_be_asked_for_among_some(catalog):
    for location in ("a", "b", "c"):
        catalog.begin_write(location, "vision", "ada", now() + timedelta(hours=1))
    catalog.cancel_write("a")
    catalog.cancel_write("b")
    assert catalog.list_doomed(now(), 9, among=["b", "c"]) == ["b"]
    assert catalog.list_doomed(now(), 9, among=[]) == []
