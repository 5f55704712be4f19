import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

from registry.errors import ConfigurationError
from storage.metadata import migrate
from storage.metadata.catalog import Catalog
from storage.metadata.migrate import find_revision, head_revision, upgrade
from storage.metadata.record_tables import RecordDueRow
from storage.metadata.session import Database
from storage.metadata.tables import Base


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return request.getfixturevalue("postgres_database")


def test_the_migrated_schema_is_the_schema_of_the_tables(database_url):
    database = Database(database_url)
    differences = database.read(
        lambda session: compare_metadata(MigrationContext.configure(session.connection()), Base.metadata)
    )
    database.close()
    assert differences == []


def test_upgrade_leads_from_nothing_to_head_and_twice_changes_nothing(empty_url):
    fresh = Catalog.open(empty_url)
    assert fresh.schema_revision() is None
    assert fresh.needs_migration()
    upgrade(empty_url)
    assert fresh.schema_revision() == head_revision()
    assert not fresh.needs_migration()
    registry_id = fresh.registry_id()
    upgrade(empty_url)
    assert fresh.registry_id() == registry_id
    fresh.close()


def test_replicas_that_migrate_at_once_wait_for_each_other(empty_url):
    failures = []

    def migrate():
        try:
            upgrade(empty_url)
        except Exception as error:  # noqa: BLE001 - whatever a second migration may raise
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    database = Database(empty_url)
    assert database.read(lambda session: find_revision(session.connection())) == head_revision()
    database.close()


def test_every_registry_has_its_own_id(empty_url, database_url):
    upgrade(empty_url)
    first, second = Catalog.open(empty_url), Catalog.open(database_url)
    assert len(first.registry_id()) == 32
    assert first.registry_id() != second.registry_id()
    first.close()
    second.close()


def test_the_schema_of_a_newer_version_is_refused(database_url):
    database = Database(database_url)
    database.write(lambda session: session.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    with pytest.raises(ConfigurationError, match="9999 of a newer"):
        upgrade(database_url)


def test_teams_that_were_there_before_know_what_they_keep(empty_url):
    database = Database(empty_url)
    database.write(lambda session: migrate_to("0004", session.connection()))
    database.write(add_old_rows)
    upgrade(empty_url)
    used = text("SELECT name, version_count, stored_bytes, max_bytes, max_versions FROM teams ORDER BY name")
    rows = database.read(lambda session: session.execute(used).all())
    database.close()
    assert rows == [("audio", 0, 0, None, None), ("vision", 2, 30, None, None)]


def test_an_upgrade_lets_the_records_of_all_models_and_versions_be_written(empty_url):
    database = Database(empty_url)
    database.write(lambda session: migrate_to("0006", session.connection()))
    database.write(add_old_rows)
    upgrade(empty_url)
    due = database.read(lambda session: list(session.scalars(select(RecordDueRow).order_by(RecordDueRow.due_at))))
    database.close()
    assert sorted((row.model_id, row.number) for row in due) == [(1, 0), (1, 1), (2, 0), (2, 2), (3, 0)]


@pytest.mark.parametrize("empty_url", ["postgres"], indirect=True)
def test_an_upgrade_puts_the_counts_of_marks_into_their_key(empty_url):
    database = Database(empty_url)
    database.write(lambda session: migrate_to("0010", session.connection()))
    owner = "INSERT INTO architectures (id, digest, weight_count, document) VALUES (1, 'sha256:1', 3, '')"
    for statement in (owner, "INSERT INTO architecture_marks (mark, architecture_id, count) VALUES (7, 1, 3)"):
        database.write(lambda session, statement=statement: session.execute(text(statement)))
    upgrade(empty_url)
    key = database.read(lambda session: inspect(session.connection()).get_pk_constraint("architecture_marks"))
    assert key["constrained_columns"] == ["mark", "architecture_id"]
    assert key["dialect_options"] == {"postgresql_include": ["count"]}
    counts = text("SELECT count FROM architecture_marks WHERE mark = 7")
    assert database.read(lambda session: session.scalars(counts).all()) == [3]
    database.close()


def migrate_to(revision, connection):
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def add_old_rows(session):
    """Insert a team without versions, and one whose third version was purged."""
    model = (
        "INSERT INTO models (id, team, name, description, search_text, version_counter, version_count, created_at, "
        "created_by, updated_at)"
    )
    version = (
        "INSERT INTO versions (id, model_id, number, kind, trust, size_bytes, wrappers, weights, notices, created_at, "
        "created_by, purged_at)"
    )
    now = "'2026-01-02 03:04:05'"
    for number, team, name in ((1, "vision", "a"), (2, "vision", "b"), (3, "audio", "empty")):
        session.execute(text(f"{model} VALUES ({number}, '{team}', '{name}', '', '', 2, 2, {now}, 'ada', {now})"))
    for number, owner, size, purged in ((1, 1, 10, "NULL"), (2, 2, 20, "NULL"), (3, 2, 500, now)):
        content = (
            f"{number}, {owner}, {number}, 'state_dict', 'tensors', {size}, '[]', '[]', '[]', {now}, 'ada', {purged}"
        )
        session.execute(text(f"{version} VALUES ({content})"))
