"""Questions past SQLAlchemy: answered alike, by whoever need not wait, and otherwise in the ordinary way."""

from datetime import UTC, datetime

import pytest
from actors import ADA
from sqlalchemy import bindparam, select, text

from registry.errors import CatalogUnavailableError
from registry.teams import TokenCreate
from storage.metadata.asking import Question
from storage.metadata.records import Secret
from storage.metadata.session import ask_in
from storage.metadata.tables import VersionRow
from storage.metadata.team_tables import TokenRow

ENDS = datetime(2099, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
TOKENS = Question(select(TokenRow.prefix, TokenRow.scopes, TokenRow.expires_at, TokenRow.revoked_at).limit(5))
VERSIONS = Question(select(VersionRow.number, VersionRow.created_at).where(VersionRow.number == bindparam("number")))


@pytest.fixture
def filled(catalog, push):
    """A catalog with a version and a token."""
    push()
    catalog.create_user("ada", is_administrator=False, by=ADA)
    create = TokenCreate(name="a test", user="ada", scopes=["read", "push"])
    catalog.create_token("ada", create, Secret("wb_a", "sha256:a", ENDS), ADA)
    return catalog


def test_a_question_has_the_answer_that_it_has_in_a_transaction(filled):
    for question, values in ((TOKENS, {}), (VERSIONS, {"number": 1}), (VERSIONS, {"number": 2})):
        in_transaction = filled.database.read(lambda session, asked=(question, values): ask_in(session, *asked))
        answers = [list(map(tuple, filled.database.ask(question, values))) for _ in range(2)]
        assert answers == [list(map(tuple, in_transaction))] * 2
    assert [tuple(row) for row in filled.database.ask(TOKENS, {})] == [("wb_a", ["push", "read"], ENDS, None)]


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_over_a_network_nothing_is_answered_at_once(filled):
    assert not filled.answers_at_once
    assert filled.database.ask_at_once(VERSIONS, {"number": 1}) is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_whoever_must_not_wait_does_not(filled):
    reader = filled.database._at_once
    assert len(filled.database.ask_at_once(VERSIONS, {"number": 1})) == 1

    with reader._turn:
        assert filled.database.ask_at_once(VERSIONS, {"number": 1}) is None
        assert len(filled.database.ask(VERSIONS, {"number": 1})) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_question_that_fails_is_told_by_name_in_the_ordinary_way(filled):
    filled.database.write(lambda session: session.execute(text("ALTER TABLE tokens RENAME TO elsewhere")))

    assert filled.database.ask_at_once(TOKENS, {}) is None
    with pytest.raises(CatalogUnavailableError):
        filled.database.ask(TOKENS, {})
    filled.database.write(lambda session: session.execute(text("ALTER TABLE elsewhere RENAME TO tokens")))
    assert len(filled.database.ask_at_once(TOKENS, {})) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_answers_at_once_writes_nothing_and_holds_up_no_writer(filled):
    change = Question(select(VersionRow.number))
    change.text = "DELETE FROM versions RETURNING number"

    assert filled.database.ask_at_once(change, {}) is None
    assert len(filled.database.ask_at_once(VERSIONS, {"number": 1})) == 1
    with filled.database.engine.connect() as connection:
        is_busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
    assert not is_busy
