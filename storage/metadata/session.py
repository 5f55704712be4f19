"""Engines and transactions: what SQLite and PostgreSQL each need, and where their exceptions end."""

import functools
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoResultFound,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from registry.errors import (
    CatalogUnavailableError,
    ConfigurationError,
    InternalError,
    InvalidMetadataError,
    StorageFullError,
    WeighbridgeError,
)
from storage.metadata.asking import FileReader, Question, Rows
from storage.metadata.columns import Base

ResultT = TypeVar("ResultT")
OwnerT = TypeVar("OwnerT", bound="Transactional")
Params = ParamSpec("Params")

MAX_ATTEMPTS = 10
MAX_CONTRADICTIONS = 3
"""Rows that contradict each other are a lost race at first, and a mistake when they still do."""
BUSY_TIMEOUT_SECONDS = 5
_WRITE = "weighbridge_write"
_POSTGRES_SETTINGS = {
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
}
_REPEATABLE_SQLSTATES = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_DISK_FULL_SQLSTATE = "53100"


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


class Database:
    """Connections to one database, and functions run inside its transactions.

    Args:
        url: `sqlite:///path` or `postgresql+psycopg://…`.
        pool_size: connections at most.
    """

    def __init__(self, url: str, pool_size: int = 10) -> None:
        self.engine = _create_engine(url, pool_size)
        self._asker = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._at_once: FileReader | None = None
        if self.engine.dialect.name == "sqlite":
            self._at_once = FileReader(self.engine)
            # Writers of this process queue here and not with a connection in hand, so readers never wait for one.
            self._turn: AbstractContextManager[Any] = threading.Lock()
            self._reader = self.engine
            self._writer = self.engine.execution_options(**{_WRITE: True})
        else:
            self._turn = nullcontext()
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._writer = self.engine

    def read(self, work: Callable[[Session], ResultT]) -> ResultT:
        """Return what `work` returns inside one read transaction: it sees one moment.

        Raises:
            CatalogUnavailableError: the database did not answer.
        """
        return self._repeat(lambda: _run(work, self._reader, nullcontext()))

    def read_once(self, work: Callable[[Session], ResultT]) -> ResultT:
        """Return what `work` returns, which sends one statement: that sees one moment with no transaction around it.

        Raises:
            CatalogUnavailableError: the database did not answer.
        """
        engine = self._reader if self._at_once is not None else self._asker
        return self._repeat(lambda: _run(work, engine, nullcontext()))

    def write(self, work: Callable[[Session], ResultT]) -> ResultT:
        """Return what `work` returns inside one write transaction, repeated when it lost a race to another one.

        Raises:
            CatalogUnavailableError: the database did not answer.
            StorageFullError: its disk is full; nothing was changed.
        """
        return self._repeat(lambda: _run(work, self._writer, self._turn))

    def ask(self, question: Question, values: Mapping[str, Any]) -> Rows:
        """Return the rows that answer a question, asked without a transaction around it.

        Raises:
            CatalogUnavailableError: the database did not answer.
        """
        if self._at_once is None:
            return self._repeat(lambda: _ask(self._asker, question, values))
        found = self._at_once.ask(question, values)
        return found if found is not None else self.read(lambda session: ask_in(session, question, values))

    @property
    def answers_at_once(self) -> bool:
        """Whether a question takes less than handing it to another thread does: it goes to a file, over no network."""
        return self._at_once is not None

    def ask_at_once(self, question: Question, values: Mapping[str, Any]) -> Rows | None:
        """Return the rows that answer a question, for whoever must not wait; None where that takes waiting."""
        return None if self._at_once is None else self._at_once.ask(question, values)

    def _repeat(self, run: Callable[[], ResultT]) -> ResultT:
        attempt = 0
        while True:
            try:
                return run()
            except SQLAlchemyError as error:
                attempt += 1
                if attempt >= _attempts(error):
                    raise translate(error) from error
            time.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311 - spreads rivals, keeps no secret

    def close(self) -> None:
        """Close the idle connections."""
        if self._at_once is not None:
            self._at_once.close()
        self.engine.dispose()


class Transactional:
    """Something whose public methods are one transaction each (`reads`, `writes`)."""

    def __init__(self, database: Database) -> None:
        self.database = database


def reads(
    method: Callable[Concatenate[OwnerT, Session, Params], ResultT],
) -> Callable[Concatenate[OwnerT, Params], ResultT]:
    """Run the method inside one read transaction and hand it the session."""

    @functools.wraps(method)
    def run(self: OwnerT, *args: Params.args, **kwargs: Params.kwargs) -> ResultT:
        return self.database.read(lambda session: method(self, session, *args, **kwargs))

    return run


def reads_once(
    method: Callable[Concatenate[OwnerT, Session, Params], ResultT],
) -> Callable[Concatenate[OwnerT, Params], ResultT]:
    """Run the method, which sends one statement, and hand it a session; PostgreSQL is told of no begin and no end."""

    @functools.wraps(method)
    def run(self: OwnerT, *args: Params.args, **kwargs: Params.kwargs) -> ResultT:
        return self.database.read_once(lambda session: method(self, session, *args, **kwargs))

    return run


def writes(
    method: Callable[Concatenate[OwnerT, Session, Params], ResultT],
) -> Callable[Concatenate[OwnerT, Params], ResultT]:
    """Run the method inside one write transaction and hand it the session. It may run more than once."""

    @functools.wraps(method)
    def run(self: OwnerT, *args: Params.args, **kwargs: Params.kwargs) -> ResultT:
        return self.database.write(lambda session: method(self, session, *args, **kwargs))

    return run


def ask_in(session: Session, question: Question, values: Mapping[str, Any]) -> Rows:
    """Return the rows that answer a question in a transaction; past its session, which would look for what it knows."""
    return session.connection().execute(question.statement, values).all()


def insert_for(session: Session, row: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that knows `ON CONFLICT`; both databases speak the same dialect of it."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    return insert(row)


def translate(error: SQLAlchemyError) -> WeighbridgeError:
    """Return the named error for what a database or driver raised."""
    if isinstance(error, IntegrityError) or not isinstance(error, DBAPIError | PoolTimeoutError):
        return InternalError("Rows contradict each other; nothing was changed. Please report this.")
    if isinstance(error, DataError):
        return InvalidMetadataError("A text holds characters that cannot be kept (NUL). Remove them and repeat.")
    full = isinstance(error, DBAPIError) and (
        getattr(error.orig, "sqlite_errorname", None) == "SQLITE_FULL" or _sqlstate(error) == _DISK_FULL_SQLSTATE
    )
    if full:
        return StorageFullError("The disk of the catalog is full; nothing was changed. Free some space and repeat.")
    return CatalogUnavailableError(
        "The catalog's database did not answer as expected; nothing was changed. Check that it runs, is reachable and "
        "migrated (`python -m api migrate`), then repeat."
    )


def _run(work: Callable[[Session], ResultT], engine: Engine, turn: AbstractContextManager[Any]) -> ResultT:
    with turn, Session(engine, expire_on_commit=False) as session, session.begin():
        return work(session)


def _ask(engine: Engine, question: Question, values: Mapping[str, Any]) -> Rows:
    with engine.connect() as connection:
        return connection.execute(question.statement, values).all()


def _attempts(error: SQLAlchemyError) -> int:
    """Return how often a transaction that ended like this is worth trying."""
    if isinstance(error, IntegrityError | NoResultFound):
        return MAX_CONTRADICTIONS  # a collector and a publisher met at one object, or two inserted the same row
    if not isinstance(error, DBAPIError):
        return 1
    busy = str(getattr(error.orig, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
    return MAX_ATTEMPTS if busy or _sqlstate(error) in _REPEATABLE_SQLSTATES else 1


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _create_engine(url: str, pool_size: int) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            engine = create_engine(parsed, pool_size=pool_size, max_overflow=0)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        if parsed.drivername == "postgresql+psycopg":
            options = " ".join(f"-c {name}={value}" for name, value in _POSTGRES_SETTINGS.items())
            return create_engine(
                parsed,
                pool_size=pool_size,
                max_overflow=0,
                pool_pre_ping=True,
                connect_args={"options": options, "connect_timeout": 10},
            )
    except ValueError:  # its words are a piece of the URL, perhaps of the password
        raise ConfigurationError(
            "The database URL cannot be read: write postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, with `%2F` "
            "for a `/` in the password, `%3A` for a `:` and `%40` for an `@`."
        ) from None
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise ConfigurationError(f"The database URL cannot be used: {error}") from error
    raise ConfigurationError(
        f"A catalog at {parsed.drivername}:// is not supported: use sqlite:///PATH or postgresql+psycopg://…"
    )


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Without this the driver opens transactions itself, deferred and late; `_begin_sqlite` opens them instead.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another wrote, whatever the timeout.
    write = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
