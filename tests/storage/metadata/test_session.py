import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from actors import ADA, EVERYTHING
from sqlalchemy import event, make_url, select, text, update

from registry.errors import CatalogUnavailableError, ConfigurationError, InternalError, StorageFullError
from registry.schema import ModelCreate
from storage.metadata.catalog import Catalog
from storage.metadata.records import ModelQuery
from storage.metadata.session import Database
from storage.metadata.tables import LeaseRow


def pragma(catalog, name):
    return catalog.database.read(lambda session: session.execute(text(f"PRAGMA {name}")).scalar())


def test_sqlite_runs_as_the_design_asks(sqlite_url):
    catalog = Catalog.open(sqlite_url)
    assert pragma(catalog, "journal_mode") == "wal"
    assert pragma(catalog, "foreign_keys") == 1
    assert pragma(catalog, "synchronous") == 2
    assert pragma(catalog, "busy_timeout") == 5000
    catalog.close()


def test_postgresql_runs_as_the_design_asks(postgres_url):
    catalog = Catalog.open(postgres_url)

    def setting(session, name):
        return session.execute(text(f"SHOW {name}")).scalar()

    assert catalog.database.read(lambda session: setting(session, "statement_timeout")) == "30s"
    assert catalog.database.read(lambda session: setting(session, "transaction_read_only")) == "on"
    assert catalog.database.read(lambda session: setting(session, "transaction_isolation")) == "repeatable read"
    assert catalog.database.write(lambda session: setting(session, "transaction_read_only")) == "off"
    assert catalog.database.write(lambda session: setting(session, "transaction_isolation")) == "read committed"
    catalog.close()


def test_a_read_sees_one_moment(catalog):
    def read(session):
        before = session.scalar(select(LeaseRow.holder))
        writer = threading.Thread(target=catalog.acquire_lease, args=("gc", "me", datetime.now(UTC)))
        writer.start()
        writer.join()
        return before, session.scalar(select(LeaseRow.holder))

    assert catalog.database.read(read) == (None, None)
    assert catalog.database.read(lambda session: session.scalar(select(LeaseRow.holder))) == "me"


def test_a_statement_that_is_read_once_has_no_transaction_around_it_on_postgresql(postgres_url):
    catalog = Catalog.open(postgres_url)

    def begun_twice(session):
        return [session.scalar(text("SELECT now()")) for _ in range(2)]

    assert len(set(catalog.database.read(begun_twice))) == 1
    assert len(set(catalog.database.read_once(begun_twice))) == 2
    catalog.close()


def test_a_failed_transaction_leaves_nothing(catalog, rows):
    def fail(session):
        session.add(LeaseRow(name="gc", holder="me", until=datetime.now(UTC)))
        session.flush()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        catalog.database.write(fail)
    assert rows(LeaseRow) == 0


def test_times_come_back_in_utc_whatever_zone_they_had(catalog):
    until = datetime(2026, 1, 2, 3, 4, 5, 678901, timezone(timedelta(hours=5, minutes=30)))
    catalog.acquire_lease("gc", "me", until)
    found = catalog.database.read(lambda session: session.scalar(select(LeaseRow.until)))
    assert found == until
    assert found.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(catalog):
    naive = datetime(2026, 1, 2)  # noqa: DTZ001 - the point of the test
    with pytest.raises(InternalError):
        catalog.acquire_lease("gc", "me", naive)


def test_another_process_that_writes_is_waited_for(sqlite_url):
    catalog, other = Catalog.open(sqlite_url), Database(sqlite_url)
    writing, finish = threading.Event(), threading.Event()

    def write_slowly(session):
        session.connection()
        writing.set()
        finish.wait()

    slow = threading.Thread(target=other.write, args=(write_slowly,))
    slow.start()
    writing.wait()
    assert catalog.list_models(EVERYTHING, ModelQuery()).items == []
    threading.Timer(0.3, finish.set).start()
    assert catalog.create_model("vision", "resnet50", ModelCreate(), ADA).name == "resnet50"
    slow.join()
    catalog.close()
    other.close()


def test_a_writer_that_never_ends_is_named(sqlite_url, monkeypatch):
    monkeypatch.setattr("storage.metadata.session.BUSY_TIMEOUT_SECONDS", 0.05)  # waiting is what is tested
    monkeypatch.setattr("storage.metadata.session.MAX_ATTEMPTS", 2)
    catalog, other = Catalog.open(sqlite_url), Database(sqlite_url)

    def write_meanwhile(session):
        session.connection()
        with pytest.raises(CatalogUnavailableError):
            catalog.create_model("vision", "resnet50", ModelCreate(), ADA)

    other.write(write_meanwhile)
    assert catalog.create_model("vision", "resnet50", ModelCreate(), ADA).name == "resnet50"
    catalog.close()
    other.close()


def test_transactions_that_deadlock_are_repeated_until_both_succeed(postgres_url, at_once):
    database = Database(postgres_url)
    for name in ("a", "b"):
        Catalog(database).acquire_lease(name, "nobody", datetime.now(UTC))
    met = threading.Barrier(2)

    def cross(number):
        def work(session):
            names = ["a", "b"] if number else ["b", "a"]
            session.execute(update(LeaseRow).where(LeaseRow.name == names[0]).values(holder=f"{number}"))
            with suppress(threading.BrokenBarrierError):
                met.wait(5)
            met.abort()  # a repeated transaction meets nobody
            session.execute(update(LeaseRow).where(LeaseRow.name == names[1]).values(holder=f"{number}"))

        return database.write(work)

    assert at_once(2, cross) == [None, None]
    holders = database.read(lambda session: session.scalars(select(LeaseRow.holder)).all())
    assert holders in (["0", "0"], ["1", "1"])
    database.close()


def test_a_full_disk_is_named_and_changes_nothing(sqlite_url):
    catalog = Catalog.open(sqlite_url)
    event.listen(
        catalog.database.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=1")
    )
    with pytest.raises(StorageFullError):
        catalog.create_model("vision", "resnet50", ModelCreate(description="x" * 20_000), ADA)
    assert catalog.list_models(EVERYTHING, ModelQuery()).items == []
    catalog.close()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/at/all/catalog.db",
        "postgresql+psycopg://nobody:secret@127.0.0.1:1/nothing",
    ],
)
def test_a_database_that_is_away_is_named_without_telling_secrets(url):
    catalog = Catalog.open(url)
    with pytest.raises(CatalogUnavailableError) as caught:
        catalog.check()
    assert "secret" not in str(caught.value)
    catalog.close()


def test_a_database_that_was_never_migrated_is_named(tmp_path, postgres_database):
    for url in (f"sqlite:///{tmp_path / 'empty.db'}", postgres_database):
        catalog = Catalog.open(url)
        catalog.check()
        with pytest.raises(CatalogUnavailableError, match="migrate"):
            catalog.registry_id()
        catalog.close()


def test_a_database_that_comes_back_is_used_again(postgres, postgres_url):
    catalog = Catalog.open(postgres_url)
    catalog.check()
    name = make_url(postgres_url).database
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - a name made by the fixture
    catalog.check()
    catalog.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://x/y", "nonsense", "nonsense://x", ""])
def test_other_databases_are_refused_by_name(url):
    with pytest.raises(ConfigurationError):
        Catalog.open(url)
