"""Overrides in the catalog: harmful bytes that admins of a team may download, and why."""

from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.errors import NotFoundError
from registry.schema import Page
from registry.teams import OverrideInfo
from storage.metadata.audit import record
from storage.metadata.pages import Order, read_page
from storage.metadata.records import Actor
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.team_tables import OverrideRow
from storage.metadata.teams import get_team

_NEWEST_FIRST = Order("-created", (OverrideRow.created_at, OverrideRow.sha256), (datetime, str))


class Overrides(Transactional):
    """The part of the catalog that knows what may be downloaded although it would do harm."""

    @writes
    def set_override(self, session: Session, team: str, sha256: str, reason: str, by: Actor) -> OverrideInfo:
        """Let admins of a team download harmful bytes; a second time replaces the reason.

        Raises:
            TeamNotFoundError: there is no such team.
        """
        get_team(session, team)
        row: dict[str, Any] = {"reason": reason, "created_at": utc_now(), "created_by": by.name}
        statement = insert_for(session, OverrideRow).values(team=team, sha256=sha256, **row)
        session.execute(
            statement.on_conflict_do_update(index_elements=[OverrideRow.team, OverrideRow.sha256], set_=row)
        )
        record(session, by, "override.set", team=team, sha256=sha256, reason=reason)
        return OverrideInfo(team=team, sha256=sha256, **row)

    @writes
    def remove_override(self, session: Session, team: str, sha256: str, by: Actor) -> None:
        """Take an override back.

        Raises:
            NotFoundError: there is none.
        """
        same = OverrideRow.team == team, OverrideRow.sha256 == sha256
        if not session.scalars(delete(OverrideRow).where(*same).returning(OverrideRow.sha256)).all():
            raise NotFoundError(f"{team} has no override for {sha256}.")
        record(session, by, "override.remove", team=team, sha256=sha256)

    @reads
    def has_override(self, session: Session, team: str, sha256: str) -> bool:
        """Return whether harmful bytes may be downloaded."""
        return session.get(OverrideRow, (team, sha256)) is not None

    @reads
    def list_overrides(
        self, session: Session, team: str, cursor: str | None = None, limit: int = 100
    ) -> Page[OverrideInfo]:
        """Return a page of the overrides of a team, the newest first.

        Raises:
            TeamNotFoundError: there is no such team.
            InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
        """
        get_team(session, team)
        query = select(OverrideRow).where(OverrideRow.team == team)
        rows, following = read_page(session, query, _NEWEST_FIRST, cursor, limit)
        return Page[OverrideInfo](items=[_override_info(row) for (row,) in rows], cursor=following)


def _override_info(row: OverrideRow) -> OverrideInfo:
    return OverrideInfo(
        team=row.team,
        sha256=row.sha256,
        reason=row.reason,
        created_at=row.created_at,
        created_by=row.created_by,
    )
