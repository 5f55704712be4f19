import pytest
from sqlalchemy import select

from registry.errors import BlobNotFoundError, ConfigurationError, ConflictError, DigestMismatchError
from registry.teams import TokenCreate
from storage.access import Caller
from storage.audit import list_audit
from storage.backup import backup, restore
from storage.metadata.record_tables import RecordDueRow
from storage.metadata.records import AuditQuery
from storage.read import get_artifact, get_manifest, get_version, iter_range
from storage.teams import create_user
from storage.tokens import create_token, list_tokens, make_first_administrator

CALLER = Caller("tester", is_administrator=True)


def read_all(stores, number):
    artifact = get_artifact(stores, CALLER, "vision", "net", str(number), "model.pt")
    return b"".join(iter_range(stores.blobs, artifact.extents, 0, artifact.info.size_bytes))


@pytest.mark.parametrize("direction", ["to postgres", "to sqlite"])
def test_a_backup_moves_an_installation_to_the_other_database(
    open_installation, push, postgres_database, tmp_path, direction
):
    urls = [None, postgres_database] if direction == "to postgres" else [postgres_database, None]
    old, new = (open_installation(name, url) for name, url in zip(("old", "new"), urls, strict=True))
    push(old, metrics={"top1": 0.5}, tags={"data": "digits"}, description="ünïcode")
    push(old, seed=1, base="vision/net:1", aliases=["prod"])
    backup(old, CALLER, tmp_path / "backup")
    restore(new, CALLER, tmp_path / "backup")
    for number in (1, 2):
        assert get_version(new, CALLER, "vision", "net", str(number)) == get_version(
            old, CALLER, "vision", "net", str(number)
        )
        assert get_manifest(new, CALLER, "vision", "net", str(number), None) == get_manifest(
            old, CALLER, "vision", "net", str(number), None
        )
        assert read_all(new, number) == read_all(old, number)
    assert push(new, seed=2).number == 3
    assert push(new, model="other").number == 1


def test_a_second_backup_copies_only_what_is_new(open_installation, push, tmp_path):
    stores = open_installation("one")
    push(stores)
    assert backup(stores, CALLER, tmp_path / "backup").object_count == 1
    push(stores, seed=1)
    assert backup(stores, CALLER, tmp_path / "backup").object_count == 1


def test_a_damaged_object_is_named_and_the_backup_is_not_finished(open_installation, push, tmp_path):
    stores = open_installation("one")
    push(stores)
    (blob,) = [path for path in (tmp_path / "one" / "blobs" / "objects").rglob("*") if path.is_file()]
    blob.chmod(0o600)
    blob.write_bytes(b"x" * blob.stat().st_size)
    with pytest.raises(DigestMismatchError, match="damaged"):
        backup(stores, CALLER, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="no finished backup"):
        restore(open_installation("two"), CALLER, tmp_path / "backup")


def test_a_restore_that_lacks_an_object_leaves_nothing(open_installation, push, tmp_path):
    push(one := open_installation("one"))
    backup(one, CALLER, tmp_path / "backup")
    for path in (tmp_path / "backup" / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    two = open_installation("two")
    with pytest.raises(BlobNotFoundError, match="lacks"):
        restore(two, CALLER, tmp_path / "backup")
    assert two.catalog.is_empty()
    assert list(two.blobs.iter_locations()) == []


def test_a_restore_never_overwrites(open_installation, push, tmp_path):
    push(one := open_installation("one"))
    backup(one, CALLER, tmp_path / "backup")
    with pytest.raises(ConflictError, match="empty installation"):
        restore(one, CALLER, tmp_path / "backup")


@pytest.mark.parametrize("kept", [True, False])
def test_tokens_work_again_only_where_they_are_kept(open_installation, tmp_path, kept):
    one, two = open_installation("one"), open_installation("two")
    create_user(one, CALLER, "ada")
    made = create_token(one, CALLER, TokenCreate(name="laptop", user="ada"))
    backup(one, CALLER, tmp_path / "backup")
    restore(two, CALLER, tmp_path / "backup", keep_tokens=kept)

    listed = list_tokens(two, CALLER, "ada").items[0]

    assert (listed.prefix, listed.revoked_at is None) == (made.prefix, kept)
    assert [each.action for each in list_audit(two, CALLER, AuditQuery()).items[:2]] == [
        "installation.restore", "token.create",
    ]  # fmt: skip


def test_nothing_is_restored_where_a_service_was_started(open_installation, push, tmp_path):
    push(one := open_installation("one"))
    backup(one, CALLER, tmp_path / "backup")
    make_first_administrator(two := open_installation("two"))

    with pytest.raises(ConflictError, match="never served"):
        restore(two, CALLER, tmp_path / "backup")
    assert not [path for path in (tmp_path / "two" / "blobs" / "objects").rglob("*") if path.is_file()]


def test_after_a_restore_the_records_of_all_that_came_are_to_be_written(open_installation, push, tmp_path):
    push(one := open_installation("one"))
    backup(one, CALLER, tmp_path / "backup")
    restore(two := open_installation("two"), CALLER, tmp_path / "backup")
    due = two.catalog.database.read(lambda session: session.execute(select(RecordDueRow.number)).all())
    assert sorted(number for (number,) in due) == [0, 1]
