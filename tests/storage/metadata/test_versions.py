import pytest
from actors import ADA, BOB

from registry.errors import (
    AliasNotFoundError,
    InvalidCursorError,
    InvalidRequestError,
    NotDeletedError,
    VersionInUseError,
    VersionNotFoundError,
)
from registry.schema import AnnotationsUpdate
from storage.metadata.tables import ArtifactRow, ExtentRow, ManifestRow, ObjectRow, StorageRow, VersionRow

MODEL = ("vision", "resnet50")


def numbers(page):
    return [version.number for version in page.items]


def walk(catalog, limit=2, **options):
    found, cursor = [], None
    while True:
        page = catalog.list_versions(*MODEL, cursor=cursor, limit=limit, **options)
        assert len(page.items) <= limit
        found += numbers(page)
        cursor = page.cursor
        if cursor is None:
            return found


def test_every_selector_finds_its_version(catalog, push):
    first = push(files={"model.pt": b"one"}, aliases=["prod"])
    second = push(files={"model.pt": b"two"})
    first = catalog.get_version(*MODEL, "1")
    for selector in ("v1", "prod", first.artifacts[0].sha256):
        assert catalog.get_version(*MODEL, selector) == first
    assert catalog.get_version(*MODEL, "latest") == second


def test_a_digest_selects_the_highest_live_version_that_holds_it(catalog, push):
    digest = push().artifacts[0].sha256
    push()
    push()
    catalog.delete_version(*MODEL, 3, ADA)
    assert catalog.get_version(*MODEL, digest).number == 2
    with pytest.raises(VersionNotFoundError, match="digest"):
        catalog.get_version(*MODEL, "sha256:" + "0" * 64)


@pytest.mark.parametrize("selector", ["9", "v9", "0", "999999999999999999"])
def test_an_unknown_number_is_answered_with_the_latest(catalog, push, selector):
    push()
    with pytest.raises(VersionNotFoundError, match="The latest is 1") as caught:
        catalog.get_version(*MODEL, selector)
    assert caught.value.extra == {"latest": 1}


def test_an_unknown_alias_is_answered_with_those_that_exist(catalog, push):
    push()
    with pytest.raises(AliasNotFoundError, match="no aliases yet"):
        catalog.get_version(*MODEL, "9" * 19)
    push(aliases=["prod", "best"])
    with pytest.raises(AliasNotFoundError, match="`best`, `prod`") as caught:
        catalog.get_version(*MODEL, "prd")
    assert caught.value.extra == {"aliases": ["best", "prod"]}


def test_latest_is_the_highest_live_undeprecated_unquarantined_number(catalog, push):
    for _ in range(4):
        push()
    catalog.delete_version(*MODEL, 4, ADA)
    assert catalog.get_model(*MODEL).latest == 3
    catalog.annotate(*MODEL, 3, AnnotationsUpdate(deprecated="too old"), None, ADA)
    assert catalog.get_version(*MODEL, "latest").number == 2
    catalog.annotate(*MODEL, 3, AnnotationsUpdate(deprecated=None), None, ADA)
    assert catalog.get_version(*MODEL, "latest").number == 3
    catalog.restore_version(*MODEL, 4, ADA)
    assert catalog.get_version(*MODEL, "latest").number == 4


def test_a_quarantined_version_is_never_the_latest(catalog, push):
    push()
    push()
    push()

    def quarantine(session):
        version = session.query(VersionRow).filter_by(number=2).one()
        version.quarantined_at = version.created_at

    catalog.database.write(quarantine)
    catalog.delete_version(*MODEL, 3, ADA)
    assert catalog.get_version(*MODEL, "latest").number == 1


def test_a_model_without_live_versions_has_no_latest(catalog, push):
    push()
    deleted = catalog.delete_version(*MODEL, 1, ADA)
    assert deleted.deleted_at is not None
    assert catalog.get_model(*MODEL).version_count == 0
    with pytest.raises(VersionNotFoundError, match="no live version"):
        catalog.get_version(*MODEL, "latest")


def test_a_deleted_version_is_hidden_until_it_is_restored(catalog, push):
    before = push()
    push()
    catalog.delete_version(*MODEL, 1, BOB)
    with pytest.raises(VersionNotFoundError, match="deleted by bob and can be restored"):
        catalog.get_version(*MODEL, "1")
    assert catalog.get_version(*MODEL, "1", include_deleted=True).deleted_at is not None
    assert walk(catalog) == [2]
    assert walk(catalog, include_deleted=True) == [2, 1]
    with pytest.raises(VersionNotFoundError):
        catalog.delete_version(*MODEL, 1, BOB)
    assert catalog.restore_version(*MODEL, 1, BOB) == before
    assert catalog.get_model(*MODEL).version_count == 2
    with pytest.raises(NotDeletedError):
        catalog.restore_version(*MODEL, 1, BOB)


def test_a_version_that_an_alias_points_at_is_not_deleted(catalog, push):
    push(aliases=["prod", "best"])
    push()
    with pytest.raises(VersionInUseError, match="`best`, `prod`"):
        catalog.delete_version(*MODEL, 1, ADA)
    catalog.move_alias(*MODEL, "prod", 2, expected="any", by=ADA)
    catalog.remove_alias(*MODEL, "best", by=ADA)
    catalog.delete_version(*MODEL, 1, ADA)
    assert walk(catalog) == [2]


def test_a_number_is_never_used_again(catalog, push):
    push()
    push()
    catalog.delete_version(*MODEL, 2, ADA)
    assert push().number == 3
    catalog.delete_version(*MODEL, 3, ADA)
    catalog.purge_version(*MODEL, 3, ADA, "secret")
    assert push().number == 4
    catalog.delete_model(*MODEL, ADA)
    assert push().number == 5


def test_purging_removes_content_and_keeps_the_number_and_who_did_it(catalog, push, rows):
    push(files={"model.pt": b"unique weights", "README.md": b"shared"}, description="leaked", wrappers=["DDP"])
    push(files={"other.pt": b"others", "README.md": b"shared"})
    with pytest.raises(NotDeletedError):
        catalog.purge_version(*MODEL, 1, ADA, "secret")
    catalog.delete_version(*MODEL, 1, ADA)
    purged = catalog.purge_version(*MODEL, 1, BOB, "it held secrets")
    assert (purged.freed_bytes, purged.still_held_bytes) == (14, 6)
    gone = catalog.get_version(*MODEL, "1", include_deleted=True)
    assert (gone.artifacts, gone.weights, gone.wrappers) == ([], [], [])
    assert gone.purged_at is not None
    assert (rows(ArtifactRow), rows(ExtentRow), rows(ObjectRow), rows(ManifestRow)) == (2, 2, 2, 1)
    for _ in range(2):
        with pytest.raises(NotDeletedError, match="purged by bob: it held secrets"):
            catalog.purge_version(*MODEL, 1, BOB, "again")
    with pytest.raises(NotDeletedError, match="gone for good"):
        catalog.restore_version(*MODEL, 1, ADA)
    with pytest.raises(VersionNotFoundError, match="purged by bob"):
        catalog.get_version(*MODEL, "1")


def test_purging_forgets_the_storages_of_the_objects_it_frees(catalog, push, rows):
    push(files={"model.pt": b"01234567abcdefgh"})
    assert rows(StorageRow) == 2
    catalog.delete_version(*MODEL, 1, ADA)
    catalog.purge_version(*MODEL, 1, ADA, "room")
    assert rows(StorageRow) == 0


def test_purging_a_version_of_a_deleted_model_removes_what_pointed_at_it(catalog, push):
    push(aliases=["prod"])
    push()
    catalog.delete_model(*MODEL, ADA)
    catalog.purge_version(*MODEL, 1, ADA, "leaked")
    catalog.restore_model(*MODEL, ADA)
    with pytest.raises(AliasNotFoundError):
        catalog.get_version(*MODEL, "prod")
    assert catalog.alias_history(*MODEL, "prod").items[0].to_version is None


def test_a_version_of_a_deleted_model_can_be_purged(catalog, push, rows):
    push()
    push(files={"model.pt": b"others"})
    catalog.delete_model(*MODEL, ADA)
    assert catalog.purge_version(*MODEL, 1, ADA, "room").freed_bytes == len(b"weights")
    assert rows(ObjectRow) == 1
    restored = catalog.restore_model(*MODEL, ADA)
    assert (restored.latest, restored.version_count) == (2, 1)


def test_deletes_and_pushes_at_once_leave_the_counts_right(catalog, push, prepare, at_once):
    for _ in range(8):
        push()
    new = [prepare(files={"model.pt": b"%d" % n}) for n in range(4)]

    def act(n):
        return catalog.publish(new[n - 8]) if n >= 8 else catalog.delete_version(*MODEL, n + 1, ADA)

    assert [result for result in at_once(12, act) if isinstance(result, Exception)] == []
    model = catalog.get_model(*MODEL)
    assert (model.version_count, model.latest) == (4, 12)


@pytest.mark.parametrize("sort", ["number", "created"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_walk_every_version_once_in_order(catalog, push, sort, limit):
    for _ in range(7):
        push()
    assert walk(catalog, limit, sort=sort) == [1, 2, 3, 4, 5, 6, 7]
    assert walk(catalog, limit, sort=f"-{sort}") == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 100])
def test_versions_without_the_metric_come_last_in_both_directions(catalog, push, limit):
    for value in (0.5, None, 0.9, -1.0, None, 0.5):
        push(metrics={} if value is None else {"top1": value, "loss": 1.0})
    assert walk(catalog, limit, sort="metrics.top1") == [4, 1, 6, 3, 5, 2]
    assert walk(catalog, limit, sort="-metrics.top1") == [3, 6, 1, 4, 5, 2]
    assert walk(catalog, limit, sort="-metrics.unknown") == [6, 5, 4, 3, 2, 1]


def test_the_best_version_is_one_that_is_live(catalog, push):
    for value in (0.5, 0.9):
        push(metrics={"top1": value})
    catalog.delete_version(*MODEL, 2, ADA)
    assert walk(catalog, sort="-metrics.top1") == [1]


def test_lists_are_filtered_by_every_tag(catalog, push):
    push(tags={"data": "imagenet", "size": "224"})
    push(tags={"data": "imagenet"})
    push(tags={"data": "coco", "size": "224"})
    assert walk(catalog, tags={"data": "imagenet"}) == [2, 1]
    assert walk(catalog, tags={"data": "imagenet", "size": "224"}) == [1]
    assert walk(catalog, tags={"data": "imagenet"}, sort="-metrics.top1") == [2, 1]
    assert walk(catalog, tags={"size": "x"}) == []


def test_bad_sorts_limits_and_cursors_of_versions_are_refused(catalog, push):
    push(metrics={"a": 1.0})
    push(metrics={"a": 2.0})
    with pytest.raises(InvalidRequestError, match=r"metrics\.NAME"):
        catalog.list_versions(*MODEL, sort="name")
    with pytest.raises(InvalidRequestError):
        catalog.list_versions(*MODEL, limit=0)
    cursor = catalog.list_versions(*MODEL, sort="metrics.a", limit=1).cursor
    for sort in ("-metrics.a", "metrics.b", "number", "created"):
        with pytest.raises(InvalidCursorError):
            catalog.list_versions(*MODEL, sort=sort, cursor=cursor)
