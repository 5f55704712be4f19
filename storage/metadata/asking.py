"""Questions of one SELECT, asked past what SQLAlchemy does around a statement where the database is a file.

Pool, transaction, session and rows of SQLAlchemy take some hundred times as long as SQLite itself, which answers such a
question in microseconds: less than it takes to hand it to another thread.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from sqlalchemy import Engine, Select
from sqlalchemy.dialects import sqlite

Rows: TypeAlias = Sequence[Sequence[Any]]

_SQLITE = sqlite.dialect(paramstyle="named")


class Question:
    """A SELECT that is asked often, with named parameters. By itself it sees one moment, without any transaction.

    Attributes:
        statement: for SQLAlchemy.
        text: for SQLite.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        compiled = statement.compile(dialect=_SQLITE)
        self.statement = statement
        self.text = str(compiled)
        self._constants = dict(compiled.params)
        kinds = [column.type.dialect_impl(_SQLITE) for column in statement.selected_columns]
        readers = [kind.result_processor(_SQLITE, None) for kind in kinds]
        self._readers = [(place, reader) for place, reader in enumerate(readers) if reader is not None]

    def ask(self, connection: sqlite3.Connection, values: Mapping[str, Any]) -> Rows:
        """Return the rows that a connection of the driver finds, as SQLAlchemy would give them."""
        found = connection.execute(self.text, {**self._constants, **values}).fetchall()
        return [self._read(row) for row in found]

    def _read(self, row: Sequence[Any]) -> Sequence[Any]:
        read = list(row)
        for place, reader in self._readers:
            read[place] = reader(row[place])
        return read


class FileReader:
    """One connection that reads a database file and never waits: neither for who uses it, nor for who locks the file.

    Args:
        engine: of the database; the connection is none of its pool.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: sqlite3.Connection | None = None
        self._turn = threading.Lock()

    def ask(self, question: Question, values: Mapping[str, Any]) -> Rows | None:
        """Return the rows that answer a question now; None where that would take waiting, or fails."""
        if not self._turn.acquire(blocking=False):
            return None
        try:
            if self._connection is None:
                self._connection = self._connect()
            return question.ask(self._connection, values)
        except sqlite3.Error:
            return None  # whoever asks in the ordinary way is told what it is
        finally:
            self._turn.release()

    def close(self) -> None:
        """Let go of the connection, if there is one; the next question opens another."""
        with self._turn, suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        own = {"check_same_thread": False, "isolation_level": None, "timeout": 0}
        connection: sqlite3.Connection = self._engine.dialect.connect(*arguments, **{**options, **own})  # pyright: ignore[reportAssignmentType] - the driver's own
        connection.execute("PRAGMA query_only=ON").close()
        return connection
