"""The audit in the catalog: who did what, written in the transaction that does it, never changed."""

from typing import Any

from sqlalchemy import Select, insert, select
from sqlalchemy.orm import Session

from registry.schema import Page
from registry.teams import AuditEntry
from storage.metadata.pages import Order, read_page
from storage.metadata.records import Actor, AuditQuery
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.team_tables import AuditRow

_NEWEST_FIRST = Order("-id", (AuditRow.id,), (int,))


class AuditRecords(Transactional):
    """The part of the catalog that knows what happened."""

    @writes
    def note(
        self,
        session: Session,
        by: Actor,
        action: str,
        *,
        team: str | None = None,
        model: str | None = None,
        version: int | None = None,
        **detail: Any,
    ) -> None:
        """Record what changes no other row, such as somebody who came with a wrong token."""
        record(session, by, action, team=team, model=model, version=version, **detail)

    @reads
    def list_audit(
        self, session: Session, query: AuditQuery, cursor: str | None = None, limit: int = 100
    ) -> Page[AuditEntry]:
        """Return a page of the audit, the newest first.

        Raises:
            InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
        """
        rows, following = read_page(session, _filter(query), _NEWEST_FIRST, cursor, limit)
        return Page[AuditEntry](items=[_entry(row) for (row,) in rows], cursor=following)


def record(
    session: Session,
    by: Actor,
    action: str,
    *,
    team: str | None = None,
    model: str | None = None,
    version: int | None = None,
    **detail: Any,
) -> None:
    """Record what this transaction does; it is in the audit when the transaction commits, and only then.

    Args:
        session: of a write transaction.
        by: who does it.
        action: what, as `model.delete`: the kind of thing, and the verb.
        team: of what it is done to.
        model: of what it is done to.
        version: of what it is done to.
        detail: JSON values; never a secret.
    """
    row = {"actor": by.name, "token": by.token, "address": by.address, "request_id": by.request_id}
    where = {"team": team, "model": model, "version": version}
    session.execute(insert(AuditRow).values(at=utc_now(), action=action, **row, **where, detail=detail or None))


def _filter(query: AuditQuery) -> Select[AuditRow]:
    chosen = select(AuditRow)
    for column, wanted in (
        (AuditRow.team, query.team),
        (AuditRow.actor, query.actor),
        (AuditRow.action, query.action),
        (AuditRow.model, query.model),
    ):
        if wanted is not None:
            chosen = chosen.where(column == wanted)
    if query.since is not None:
        chosen = chosen.where(AuditRow.at >= query.since)
    if query.until is not None:
        chosen = chosen.where(AuditRow.at < query.until)
    return chosen


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        actor=row.actor,
        token=row.token,
        address=row.address,
        request_id=row.request_id,
        action=row.action,
        team=row.team,
        model=row.model,
        version=row.version,
        detail=row.detail or {},
    )
