import pytest
from actors import ADA, BOB, EVE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import (
    AliasNotFoundError,
    InvalidCursorError,
    ModelNotFoundError,
    PreconditionFailedError,
    VersionNotFoundError,
)
from storage.metadata.records import Actor

MODEL = ("vision", "resnet50")


def test_a_moved_alias_selects_its_version_and_shows_on_it(catalog, push):
    push()
    push()
    alias = catalog.move_alias(*MODEL, "prod", 1, expected="absent", by=ADA, reason="first")
    assert (alias.version, alias.revision, alias.updated_by) == (1, 1, "ada")
    assert catalog.get_version(*MODEL, "prod").aliases == ["prod"]
    moved = catalog.move_alias(*MODEL, "prod", 2, expected=1, by=BOB)
    assert catalog.get_alias(*MODEL, "prod") == moved
    assert catalog.list_aliases(*MODEL) == [moved]
    assert [version.aliases for version in catalog.list_versions(*MODEL).items] == [["prod"], []]


def test_a_lost_race_names_who_moved_the_alias_and_when(catalog, push):
    push()
    push()
    alias = catalog.move_alias(*MODEL, "prod", 2, expected="absent", by=BOB)
    with pytest.raises(PreconditionFailedError, match="moved to version 2 by bob at") as caught:
        catalog.move_alias(*MODEL, "prod", 1, expected="absent", by=ADA)
    assert caught.value.extra["revision"] == 1
    assert caught.value.extra["updated_at"] == alias.updated_at.isoformat()
    with pytest.raises(PreconditionFailedError):
        catalog.move_alias(*MODEL, "prod", 1, expected=7, by=ADA)
    with pytest.raises(PreconditionFailedError):
        catalog.remove_alias(*MODEL, "prod", expected=7, by=ADA)
    with pytest.raises(PreconditionFailedError, match="does not exist"):
        catalog.move_alias(*MODEL, "other", 1, expected=1, by=ADA)


def test_an_alias_points_at_live_versions_only(catalog, push):
    push()
    push()
    catalog.delete_version(*MODEL, 2, ADA)
    for number in (2, 3):
        with pytest.raises(VersionNotFoundError):
            catalog.move_alias(*MODEL, "prod", number, expected="any", by=ADA)
    with pytest.raises(ModelNotFoundError):
        catalog.move_alias("vision", "other", "prod", 1, expected="any", by=ADA)


def test_the_revision_of_a_removed_alias_never_comes_back(catalog, push):
    push()
    first = catalog.move_alias(*MODEL, "prod", 1, expected="absent", by=ADA)
    catalog.remove_alias(*MODEL, "prod", expected=first.revision, by=BOB, reason="wrong")
    for action in (catalog.get_alias, catalog.get_version):
        with pytest.raises(AliasNotFoundError):
            action(*MODEL, "prod")
    with pytest.raises(AliasNotFoundError):
        catalog.remove_alias(*MODEL, "prod", by=BOB)
    assert catalog.list_aliases(*MODEL) == []
    with pytest.raises(PreconditionFailedError, match="removed by bob"):
        catalog.move_alias(*MODEL, "prod", 1, expected=first.revision, by=ADA)
    assert catalog.move_alias(*MODEL, "prod", 1, expected="absent", by=ADA).revision == 3


def test_the_history_tells_every_move_the_newest_first(catalog, push):
    push(aliases=["prod"], by=ADA)
    push(aliases=["prod"], by=BOB)
    catalog.move_alias(*MODEL, "prod", 1, expected="any", by=EVE, reason="roll back")
    catalog.remove_alias(*MODEL, "prod", by=EVE)
    page = catalog.alias_history(*MODEL, "prod", None, 3)
    assert [(move.from_version, move.to_version, move.moved_by) for move in page.items] == [
        (1, None, "eve"),
        (2, 1, "eve"),
        (1, 2, "bob"),
    ]
    assert page.items[1].reason == "roll back"
    rest = catalog.alias_history(*MODEL, "prod", page.cursor, 3)
    assert [(move.from_version, move.to_version, move.revision) for move in rest.items] == [(None, 1, 1)]
    assert rest.cursor is None
    with pytest.raises(InvalidCursorError):
        catalog.alias_history(*MODEL, "prod", "x", 3)
    with pytest.raises(AliasNotFoundError):
        catalog.alias_history(*MODEL, "never")


@pytest.mark.parametrize("expected", ["absent", 1])
def test_of_32_moves_with_the_same_expectation_exactly_one_wins(catalog, push, at_once, expected):
    push(aliases=[] if expected == "absent" else ["prod"])
    push()
    results = at_once(
        32, lambda n: catalog.move_alias(*MODEL, "prod", 1 + n % 2, expected=expected, by=Actor(f"user{n}"))
    )
    winners = [result for result in results if not isinstance(result, Exception)]
    losers = [result for result in results if isinstance(result, Exception)]
    assert [winner.updated_by for winner in winners] == [catalog.get_alias(*MODEL, "prod").updated_by]
    assert {type(loser) for loser in losers} == {PreconditionFailedError}
    assert {loser.extra["updated_by"] for loser in losers} == {winners[0].updated_by}


MOVES = st.tuples(
    st.sampled_from(["prod", "best"]),
    st.sampled_from([None, 1, 2]),
    st.one_of(st.sampled_from(["absent", "any", "current"]), st.integers(1, 6)),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(MOVES, max_size=12))
def test_aliases_change_exactly_when_the_expectation_holds(catalog, push, moves):
    push("vision/fresh")
    catalog.delete_model("vision", "fresh", ADA)
    first = push("vision/fresh").number
    push("vision/fresh")
    known = {alias: catalog_revision(catalog, alias) for alias in ("prod", "best")}
    for alias, target, expected in moves:
        number, revision = known[alias]
        claim = revision if expected == "current" else expected
        holds = claim == "any" or (claim == "absent" if number is None else claim == revision)
        version = None if target is None else first + target - 1
        try:
            change(catalog, alias, version, claim)
        except PreconditionFailedError:
            assert not holds
        except AliasNotFoundError:
            assert version is None
            assert number is None
        else:
            assert holds
            known[alias] = version, revision + 1
        assert catalog_revision(catalog, alias) == known[alias]


def change(catalog, alias, version, expected):
    if version is None:
        catalog.remove_alias("vision", "fresh", alias, expected=expected, by=ADA)
    else:
        catalog.move_alias("vision", "fresh", alias, version, expected=expected, by=ADA)


def catalog_revision(catalog, alias):
    """Return where an alias points and its revision, as its history tells."""
    try:
        [last] = catalog.alias_history("vision", "fresh", alias, None, 1).items
    except AliasNotFoundError:
        return None, 0
    return last.to_version, last.revision
