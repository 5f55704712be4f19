"""All rows as lines of JSON, and back: the same text from SQLite and PostgreSQL, so that either restores the other."""

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import IO, Any

from sqlalchemy import Column, LargeBinary, Table, delete, exists, func, insert, select, text, update
from sqlalchemy.orm import Session

from registry.errors import ConfigurationError
from storage.metadata.audit import record
from storage.metadata.columns import Base, UtcDateTime
from storage.metadata.due import note_all_due
from storage.metadata.migrate import find_revision
from storage.metadata.record_tables import RecordDueRow
from storage.metadata.records import Actor
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.tables import (
    DoomedRow,
    IdempotencyKeyRow,
    LeaseRow,
    RegistryRow,
    UploadPinRow,
    WriteIntentRow,
)
from storage.metadata.team_tables import IdentityRow, TokenRow
from storage.metadata.upload_tables import UploadFileRow, UploadRow

DUMP_VERSION = 1
_BATCH = 500
_LEFT_OUT = {
    row.__tablename__
    for row in (
        RegistryRow,
        WriteIntentRow,
        UploadRow,
        UploadFileRow,
        UploadPinRow,
        DoomedRow,
        LeaseRow,
        RecordDueRow,
    )
}
"""What belongs to the running installation: its identity, its uploads, its garbage, its locks, its records."""


class Dumps(Transactional):
    """The part of the catalog that writes everything down and reads it back."""

    @reads
    def dump(self, session: Session, file: IO[str]) -> None:
        """Write every row as it is at one moment: a line that says what this is, then a line a row.

        `file` is emptied first, for a transaction may be repeated.
        """
        file.seek(0)
        file.truncate()
        revision = find_revision(session.connection())
        file.write(json.dumps({"weighbridge_dump": DUMP_VERSION, "schema": revision}) + "\n")
        for table in _tables():
            query = select(table).order_by(*table.primary_key.columns)
            if table.name == IdempotencyKeyRow.__tablename__:
                query = query.where(table.c.number.is_not(None))  # running pushes are not part of the state
            for row in session.execute(query.execution_options(yield_per=_BATCH)):
                encoded = [_encode(value) for value in row]
                line = {"table": table.name, "row": dict(zip(table.c.keys(), encoded, strict=True))}
                file.write(json.dumps(line, separators=(",", ":")) + "\n")

    @reads
    def is_empty(self, session: Session) -> bool:
        """Return whether nothing was ever done here."""
        return is_untouched(session)

    @writes
    def load(self, session: Session, lines: Iterable[str], by: Actor, *, keep_tokens: bool) -> None:
        """Insert the rows of a dump, all or none, and end all writes: what they wrote has names now.

        Args:
            session: of this transaction.
            lines: of a dump; iterated again when the transaction is repeated.
            by: who does it.
            keep_tokens: whether tokens work again and the identities of jobs are bound, also those that were revoked or
                taken away since the dump.

        Raises:
            ConfigurationError: it is no dump, or one of another schema.
        """
        rows = iter(lines)
        _check_head(next(rows, ""), find_revision(session.connection()))
        tables = {table.name: table for table in _tables()}
        for name, group in groupby(map(json.loads, rows), key=lambda line: line["table"]):
            table = tables[name]
            for batch in _batches(_decode(table, line["row"]) for line in group):
                session.execute(insert(table), batch)
        session.execute(delete(WriteIntentRow))
        note_all_due(session)
        if session.get_bind().dialect.name == "postgresql":
            _advance_sequences(session)
        if not keep_tokens:
            live = update(TokenRow).where(TokenRow.revoked_at.is_(None))
            session.execute(live.values(revoked_at=utc_now(), revoked_by=by.name))
            # Jobs come with JWTs that nobody can end, so theirs must be bound anew. People sign in elsewhere first.
            session.execute(delete(IdentityRow).where(IdentityRow.use == "job"))
        record(session, by, "installation.restore", tokens_kept=keep_tokens)


def is_untouched(session: Session) -> bool:
    """Return whether there is no row that a dump would hold."""
    return not any(session.scalar(select(exists().select_from(table))) for table in _tables())


def iter_dumped(lines: Iterable[str], row: type[Base]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one table in a dump, as they are written there.

    Raises:
        ConfigurationError: the lines are no dump.
    """
    rows = iter(lines)
    _check_head(next(rows, ""), None)
    for line in map(json.loads, rows):
        if line["table"] == row.__tablename__:
            yield line["row"]


def _tables() -> list[Table]:
    """Return the tables that are written down, those that others refer to first."""
    return [table for table in Base.metadata.sorted_tables if table.name not in _LEFT_OUT]


def _check_head(line: str, revision: str | None) -> None:
    try:
        head: Any = json.loads(line)
        version, schema = head["weighbridge_dump"], head["schema"]
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError("This is no backup of Weighbridge, or it was not finished.") from None
    if version != DUMP_VERSION or revision not in (None, schema):
        raise ConfigurationError(
            f"The backup was made with the schema {schema}, this version of Weighbridge has {revision}. Restore it "
            "with the version that made it, then upgrade."
        )


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _decode(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    return {column.key: _decode_value(column, row[column.key]) for column in table.c}


def _decode_value(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, UtcDateTime):
        return datetime.fromisoformat(value)
    return base64.b64decode(value) if isinstance(column.type, LargeBinary) else value


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _advance_sequences(session: Session) -> None:
    """Let generated ids go on behind those that were inserted."""
    for table in _tables():
        if "id" in table.c:
            highest = session.scalar(select(func.max(table.c.id)))
            if highest is not None:
                session.execute(
                    text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :highest)"),
                    {"table": table.name, "highest": highest},
                )
