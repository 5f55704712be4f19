"""What a team may keep: exact however many push at once, on both databases."""

import pytest
from actors import ADA
from sqlalchemy import text

from registry.errors import QuotaExceededError
from registry.teams import QuotaUpdate
from storage.metadata.session import utc_now
from storage.metadata.tables import ObjectRow, VersionRow

MODEL = ("vision", "resnet50")


@pytest.fixture
def limit(catalog):
    """Return a function that makes the team if need be and limits it."""

    def limit(**limits):
        if catalog.find_team("vision") is None:
            catalog.create_team("vision", ADA)
        return catalog.update_quota("vision", QuotaUpdate(**limits), ADA)

    return limit


def used(catalog):
    team = catalog.get_team("vision")
    return team.version_count, team.stored_bytes


def test_a_team_knows_what_its_versions_take(catalog, push):
    push(files={"model.pt": b"weights", "README.md": b"read me"})
    push("vision/other", files={"model.pt": b"weights"})
    push("audio/net", files={"model.pt": b"of another team"})

    assert used(catalog) == (2, 21)


def test_what_is_left_out_of_a_limit_stays_and_null_removes_it(limit):
    limit(max_bytes=100, max_versions=3)
    changed = limit(max_versions=None, max_artifact_bytes=50)

    assert (changed.max_bytes, changed.max_versions, changed.max_artifact_bytes) == (100, None, 50)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_versions": 1}, "vision has 1 versions and may have 1"),
        ({"max_bytes": 13}, "vision uses 7 bytes and may use 13; this push has 7"),
        ({"max_artifact_bytes": 6}, "may have 6 bytes"),
    ],
)
def test_a_push_beyond_a_limit_leaves_nothing_and_is_told_whom_to_ask(catalog, limit, push, rows, limits, message):
    push(files={"model.pt": b"weights"})
    limit(**limits)

    with pytest.raises(QuotaExceededError, match=f"{message}.*administrator"):
        push(files={"model.pt": b"another"})
    assert (rows(VersionRow), rows(ObjectRow), used(catalog)) == (1, 1, (1, 7))


def test_a_push_that_fills_the_limits_is_taken(catalog, limit, push):
    limit(max_bytes=14, max_versions=2, max_artifact_bytes=7)
    push(files={"model.pt": b"weights"})
    push(files={"model.pt": b"another"})

    assert used(catalog) == (2, 14)


def test_deleting_keeps_the_room_and_purging_gives_it_back(catalog, push):
    push(files={"model.pt": b"weights"})
    push(files={"model.pt": b"another", "b.pt": b"two"})
    catalog.delete_version(*MODEL, 1, ADA)
    assert used(catalog) == (2, 17)

    catalog.purge_version(*MODEL, 1, ADA, "old")
    assert used(catalog) == (1, 10)
    catalog.purge_version(*MODEL, 2, ADA, "wrong", is_live=True)
    assert used(catalog) == (0, 0)


@pytest.mark.parametrize("limits", [{"max_versions": 5}, {"max_bytes": 5 * 9 + 8}])
def test_of_many_pushes_at_once_exactly_those_are_published_that_fit(catalog, limit, prepare, at_once, rows, limits):
    limit(**limits)
    new = [prepare(f"vision/net{n % 3}", files={"model.pt": b"weights%02d" % n}) for n in range(24)]

    results = at_once(24, lambda n: catalog.publish(new[n]))

    refused = [each for each in results if isinstance(each, Exception)]
    assert {type(each) for each in refused} == {QuotaExceededError}
    assert (len(results) - len(refused), rows(VersionRow), used(catalog)) == (5, 5, (5, 45))


def test_pushing_purging_and_changing_limits_at_once_keeps_the_count_right(catalog, push, prepare, at_once, limit):
    for n in range(8):
        push(f"vision/net{n % 2}", files={"model.pt": b"weights%02d" % n, "same.bin": b"the same"})
    new = [
        prepare(f"vision/net{n % 2}", files={"model.pt": b"more %03d" % n, "same.bin": b"the same"}) for n in range(8)
    ]

    def work(n):
        if n < 8:
            return catalog.publish(new[n])
        if n < 16:
            number = (n - 8) // 2 + 1
            return catalog.purge_version("vision", f"net{n % 2}", number, ADA, "old", is_live=True)
        return limit(max_bytes=10_000 + n)

    results = at_once(20, work)

    assert [each for each in results if isinstance(each, Exception)] == []
    kept = "SELECT count(*), sum(size_bytes) FROM versions WHERE purged_at IS NULL"
    assert used(catalog) == catalog.database.read(lambda session: session.execute(text(kept)).one()) == (8, 8 * 16)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_pushes_of_one_team_never_deadlock_over_its_row(catalog, prepare, at_once):
    files = {f"{n}.pt": b"file %d" % n for n in range(6)}
    new = [prepare(f"vision/m{n % 3}", files=dict(sorted(files.items(), reverse=n % 2 == 0))) for n in range(12)]
    results = at_once(12, lambda n: catalog.publish(new[n]))
    assert [each for each in results if isinstance(each, Exception)] == []
    assert count_deadlocks(catalog) == 0


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_pushes_and_purges_of_the_same_bytes_never_wait_for_each_other_in_a_circle(catalog, push, prepare, at_once):
    files = {f"{n}.pt": b"file %d" % n for n in range(6)}
    for n in range(6):
        push(f"vision/m{n}", files=files)
    new = [prepare(f"vision/m{n}", files=files) for n in range(6)]

    def work(n):
        if n < 6:
            return catalog.publish(new[n])
        if n < 12:
            return catalog.purge_version("vision", f"m{n - 6}", 1, ADA, "old", is_live=True)
        return catalog.doom_unused_objects(utc_now(), 100)

    assert [each for each in at_once(14, work) if isinstance(each, Exception)] == []
    assert count_deadlocks(catalog) == 0


def count_deadlocks(catalog):
    count = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return catalog.database.read(lambda session: session.scalar(count))
