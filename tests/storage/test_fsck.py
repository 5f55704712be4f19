import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from migrated import migrated_sqlite
from sqlalchemy import delete, update

from registry.errors import BlobDamagedError, ConfigurationError, UnavailableError
from storage.access import Caller
from storage.blobs.base import new_location
from storage.checking import keys, objects
from storage.checking.findings import Kind
from storage.fsck import fsck
from storage.garbage import collect
from storage.metadata.tables import ArtifactRow, ExtentRow, ManifestRow
from storage.read import get_artifact, get_version, iter_range
from storage.recording import write_due_records
from storage.versions import purge_version

CALLER = Caller("tester", is_administrator=True)


@pytest.fixture
def stores(behind, tmp_path):
    """Stores on every backend, on SQLite."""
    with behind.stores(migrated_sqlite(tmp_path / "catalog.sqlite")) as opened:
        yield opened


def check(stores, **options):
    write_due_records(stores)
    return list(fsck(stores, CALLER, **options))


def kinds(stores, **options):
    return [finding.kind for finding in check(stores, **options)]


def read(stores, number=1):
    artifact = get_artifact(stores, CALLER, "vision", "net", str(number), "model.pt")
    return b"".join(iter_range(stores.blobs, artifact.extents, 0, artifact.info.size_bytes))


def flip(behind, key):
    data = behind.read(key)
    behind.put(key, data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])


def truncate(behind, key):
    behind.put(key, behind.read(key)[:-1])


def remove(behind, key):
    behind.remove(key)


def test_nothing_is_wrong_with_what_was_pushed_purged_and_is_being_pushed(stores, push):
    assert check(stores, reads_bytes=True) == []
    for seed in (0, 1, 1):
        push(stores, seed=seed, aliases=["prod"], metrics={"top1": seed})
    purge_version(stores, CALLER, "vision", "net", 1, "room", is_live=True)
    stores.catalog.begin_write(location := new_location(), "vision", "ada", datetime.now(UTC) + timedelta(hours=1))
    with stores.blobs.create(location) as writer:
        writer.write(b"half of a push")
        assert check(stores, reads_bytes=True) == []
        writer.commit()
    assert check(stores, reads_bytes=True) == []
    collect(stores, CALLER, now=datetime.now(UTC) + timedelta(days=1))
    assert check(stores, reads_bytes=True) == []


def test_an_upload_in_parts_is_no_stranger(stores):
    stores.catalog.begin_write(location := new_location(), "vision", "ada", datetime.now(UTC) + timedelta(hours=1))
    upload = stores.blobs.begin_multipart(location, 10)
    with stores.blobs.open_part(location, upload, 1, 0, 10) as writer:
        writer.write([b"0123456789"])
        writer.keep()
    assert check(stores, reads_bytes=True) == []
    stores.blobs.abort_multipart(location, upload)


@pytest.mark.parametrize(
    ("harm", "kind", "is_seen_by_size"),
    [
        (flip, Kind.OBJECT_CHANGED, False),
        (truncate, Kind.OBJECT_WRONG_SIZE, True),
        (remove, Kind.OBJECT_MISSING, True),
    ],
)
def test_damaged_bytes_are_found_flagged_never_handed_out_and_mended_by_the_same_push(
    stores, behind, push, harm, kind, is_seen_by_size
):
    push(stores)
    push(stores, seed=1)
    push(stores, model="other")
    whole = read(stores)
    first = get_artifact(stores, CALLER, "vision", "net", "1", "model.pt").extents[0].location
    harm(behind, f"objects/{first}")
    assert kinds(stores) == ([kind] if is_seen_by_size else [])
    [found] = check(stores, reads_bytes=True)
    assert (found.kind, found.where) == (kind, first)
    assert found.versions == ("vision/net:1/model.pt", "vision/other:1/model.pt")
    assert get_version(stores, CALLER, "vision", "net", "1").damaged == []

    [repaired] = check(stores, reads_bytes=True, repairs=True)
    assert repaired.repair == "it was marked as damaged"
    assert get_version(stores, CALLER, "vision", "net", "1").damaged == ["model.pt"]
    assert get_version(stores, CALLER, "vision", "net", "2").damaged == []
    with pytest.raises(BlobDamagedError, match="Push the same file again"):
        read(stores)
    assert kinds(stores) == [kind]

    push(stores)
    assert [read(stores, number) for number in (1, 3)] == [whole, whole]
    assert get_version(stores, CALLER, "vision", "other", "1").damaged == []
    assert check(stores, reads_bytes=True) == []
    collect(stores, CALLER, now=datetime.now(UTC) + timedelta(days=1))
    assert check(stores, reads_bytes=True) == []
    assert first not in stores.blobs.iter_locations()


def test_bytes_that_come_back_behind_our_back_are_handed_out_again(stores, behind, push):
    push(stores)
    whole = read(stores)
    key = f"objects/{get_artifact(stores, CALLER, 'vision', 'net', '1', 'model.pt').extents[0].location}"
    flip(behind, key)
    check(stores, reads_bytes=True, repairs=True)
    behind.put(key, whole)
    assert check(stores, repairs=True) == []
    assert read(stores) == whole


def test_keys_that_no_row_knows_are_told_and_never_touched(stores, behind, push):
    push(stores)
    strange = ["objects/notes.txt", f"objects/{new_location()}", "records/vision/net/9.json", "somebody/elses"]
    for key in strange:
        behind.put(key, b"{}")
    found = check(stores, repairs=True)
    assert {(each.kind, each.where) for each in found} == {
        *((Kind.KEY_UNKNOWN, key) for key in strange if not key.startswith("records/")),
        (Kind.RECORD_UNKNOWN, "records/vision/net/9.json"),
    }
    collect(stores, CALLER, now=datetime.now(UTC) + timedelta(days=1))
    assert [behind.read(key) for key in strange] == [b"{}"] * 4


def test_missing_and_wrong_records_are_written_again(stores, behind, push):
    push(stores)
    write_due_records(stores)
    names = ["records/vision/net/1.json", "records/vision/net/model.json"]
    before = [behind.read(name) for name in names]
    behind.remove(names[0])
    behind.put(names[1], b"{}")
    assert kinds(stores) == [Kind.RECORD_MISSING]
    assert set(kinds(stores, reads_bytes=True)) == {Kind.RECORD_MISSING, Kind.RECORD_STALE}
    assert all(each.is_mended for each in check(stores, reads_bytes=True, repairs=True))
    assert check(stores, reads_bytes=True) == []
    assert [behind.read(name) for name in names] == before


def test_rows_that_contradict_each_other_are_told(open_installation, push):
    stores = open_installation("one")
    for seed in range(3):
        push(stores, seed=seed)
    database = stores.catalog.database
    longer = update(ExtentRow).where(ExtentRow.artifact_id == 1).values(length=ExtentRow.length - 1)
    database.write(lambda session: session.execute(longer))
    database.write(lambda session: session.execute(delete(ArtifactRow).where(ArtifactRow.id == 2)))
    database.write(lambda session: session.execute(update(ManifestRow).values(compressed=b"no zlib")))
    found = {(each.kind, each.where) for each in check(stores, reads_bytes=True) if each.kind != Kind.MANIFEST_DAMAGED}
    assert found == {(Kind.EXTENTS_BROKEN, "vision/net:1/model.pt"), (Kind.VERSION_EMPTY, "vision/net:2")}
    assert kinds(stores, reads_bytes=True).count(Kind.MANIFEST_DAMAGED) == 3


def test_pushes_and_collections_beside_it_raise_no_false_alarm(open_installation, push, monkeypatch):
    monkeypatch.setattr(objects, "_BATCH", 2)
    stores = open_installation("one")
    push(stores)
    done, failures = threading.Event(), []

    def work():
        try:
            for seed in range(1, 12):
                number = push(stores, seed=seed, aliases=["prod"]).number
                purge_version(stores, CALLER, "vision", "net", number, "room", is_live=True)
                collect(stores, CALLER, now=datetime.now(UTC) + timedelta(hours=1))
        except Exception as error:  # noqa: BLE001 - the test looks at whatever it is
            failures.append(error)
        finally:
            done.set()

    worker = threading.Thread(target=work)
    worker.start()
    rounds = 0
    while not done.is_set() or not rounds:
        assert list(fsck(stores, CALLER, reads_bytes=True)) == []
        rounds += 1
    worker.join()
    assert failures == []


class Meanwhile:
    """A blob store that is looked at while something happens: nobody can time that from outside."""

    def __init__(self, blobs, happens):
        self.blobs, self.happens = blobs, happens

    def __getattr__(self, name):
        return getattr(self.blobs, name)

    def size_bytes(self, location):
        happens, self.happens = self.happens, lambda: None
        happens()
        return self.blobs.size_bytes(location)

    def iter_keys(self):
        keys = list(self.blobs.iter_keys())
        happens, self.happens = self.happens, lambda: None
        happens()
        yield from keys


@pytest.mark.parametrize("part", [objects.check_objects, keys.check_keys])
def test_what_is_collected_in_the_middle_of_a_check_is_no_finding(stores, push, part):
    push(stores)
    write_due_records(stores)

    def collect_it():
        purge_version(stores, CALLER, "vision", "net", 1, "room", is_live=True)
        collect(stores, CALLER, now=datetime.now(UTC) + timedelta(hours=1))

    looked_at = replace(stores, blobs=Meanwhile(stores.blobs, collect_it))
    options = {"reads_bytes": True, "repairs": False} if part is objects.check_objects else {}
    assert list(part(looked_at, **options)) == []
    assert list(stores.blobs.iter_locations()) == []


def test_a_store_that_does_not_answer_is_no_finding(open_installation, push, tmp_path):
    push(stores := open_installation("one"))
    folder = tmp_path / "one" / "blobs" / "objects"
    for path in [*folder.rglob("*")]:
        if path.is_dir() and len(path.parts) == len(folder.parts) + 2:
            path.chmod(0)
            path.parent.joinpath(path.name).rename(path.with_name("away"))
            path.symlink_to(path)
    with pytest.raises(UnavailableError):
        check(stores, reads_bytes=True)


@pytest.mark.parametrize("work", [collect, lambda stores, caller: list(fsck(stores, caller))])
def test_whoever_is_no_administrator_checks_and_collects_nothing(open_installation, work):
    with pytest.raises(Exception, match="Only administrators"):
        work(open_installation("one"), Caller("ada"))


def test_the_bucket_of_another_registry_is_neither_checked_nor_collected(behind, tmp_path):
    with behind.stores(f"sqlite:///{tmp_path / 'one.sqlite'}"):
        pass
    with (
        pytest.raises(ConfigurationError, match="another installation's"),
        behind.stores(f"sqlite:///{tmp_path / 'b'}"),
    ):
        pass
