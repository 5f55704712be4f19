"""Overrides in the catalog: harmful bytes that admins of a team may download, and why."""

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.errors import NotFoundError
from registry.teams import OverrideInfo
from storage.metadata.audit import record
from storage.metadata.records import Actor
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.team_tables import OverrideRow
from storage.metadata.teams import get_team

MAX_LISTED = 1000


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
    def list_overrides(self, session: Session, team: str) -> list[OverrideInfo]:
        """Return the newest overrides of a team, at most 1,000.

        Raises:
            TeamNotFoundError: there is no such team.
        """
        get_team(session, team)
        query = select(OverrideRow).where(OverrideRow.team == team).order_by(OverrideRow.created_at.desc())
        return [
            OverrideInfo(
                team=row.team,
                sha256=row.sha256,
                reason=row.reason,
                created_at=row.created_at,
                created_by=row.created_by,
            )
            for row in session.scalars(query.limit(MAX_LISTED))
        ]
