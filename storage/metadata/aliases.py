"""Aliases in the catalog: compare-and-set by a revision that never repeats, every move recorded."""

from datetime import datetime
from typing import Literal, TypeAlias

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from registry.errors import AliasNotFoundError, PreconditionFailedError
from registry.schema import AliasInfo, AliasMove, Page
from storage.metadata.audit import record
from storage.metadata.due import note_due
from storage.metadata.lookup import alias_not_found, get_model, get_version_number, lock_model
from storage.metadata.pages import Order, read_page
from storage.metadata.records import Actor
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.shapes import alias_info, alias_move
from storage.metadata.tables import AliasMoveRow, AliasRow, ModelRow

Expected: TypeAlias = int | Literal["absent", "any"]
"""What a caller thinks an alias is: its revision, not there, or they do not care."""
_NEWEST_FIRST = Order("-revision", (AliasMoveRow.revision,), (int,))


class Aliases(Transactional):
    """The part of the catalog that knows aliases."""

    @writes
    def move_alias(
        self,
        session: Session,
        team: str,
        model: str,
        alias: str,
        version: int,
        *,
        expected: Expected,
        by: Actor,
        reason: str = "",
    ) -> AliasInfo:
        """Point an alias at a live version if it is still what the caller expects.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is no such live model or version.
            PreconditionFailedError: somebody moved it since; the detail says who and when.
        """
        row = lock_model(session, team, model)
        get_version_number(session, row, version)
        _require_expected(row, alias, find_alias(session, row, alias), expected)
        moved = point_alias(session, row, alias, version, by=by, reason=reason)
        row.updated_at = moved.updated_at
        return alias_info(row, moved, version)

    @writes
    def remove_alias(
        self,
        session: Session,
        team: str,
        model: str,
        alias: str,
        *,
        expected: Expected = "any",
        by: Actor,
        reason: str = "",
    ) -> None:
        """Remove an alias if it is still what the caller expects.

        Raises:
            ModelNotFoundError, AliasNotFoundError: there is no such live model or alias.
            PreconditionFailedError: somebody moved it since; the detail says who and when.
        """
        row = lock_model(session, team, model)
        found = find_alias(session, row, alias)
        if found is None or found.number is None:
            raise alias_not_found(session, row, alias)
        _require_expected(row, alias, found, expected)
        row.updated_at = point_alias(session, row, alias, None, by=by, reason=reason).updated_at

    @reads
    def get_alias(self, session: Session, team: str, model: str, alias: str) -> AliasInfo:
        """Return where an alias points.

        Raises:
            ModelNotFoundError, AliasNotFoundError: there is no such live model or alias.
        """
        row = get_model(session, team, model)
        found = find_alias(session, row, alias)
        if found is None or found.number is None:
            raise alias_not_found(session, row, alias)
        return alias_info(row, found, found.number)

    @reads
    def get_alias_at(self, session: Session, team: str, model: str, alias: str, at: datetime) -> AliasInfo:
        """Return where an alias pointed at a moment, whatever became of it or of the version since.

        Raises:
            ModelNotFoundError, AliasNotFoundError: there is no such live model, or it had no such alias then.
        """
        row = get_model(session, team, model)
        moves = select(AliasMoveRow).where(AliasMoveRow.model_id == row.id, AliasMoveRow.name == alias)
        before = moves.where(AliasMoveRow.moved_at <= at).order_by(AliasMoveRow.revision.desc()).limit(1)
        move = session.scalars(before).one_or_none()
        if move is None or move.to_number is None:
            raise AliasNotFoundError(f"{team}/{model} had no alias {alias!r} at {at.isoformat()}.")
        return AliasInfo(
            team=team,
            model=model,
            name=alias,
            version=move.to_number,
            revision=move.revision,
            updated_at=move.moved_at,
            updated_by=move.moved_by,
        )

    @reads
    def list_aliases(self, session: Session, team: str, model: str) -> list[AliasInfo]:
        """Return all aliases of a model, by name.

        Raises:
            ModelNotFoundError: there is no such live model.
        """
        row = get_model(session, team, model)
        live = AliasRow.model_id == row.id, AliasRow.number.is_not(None)
        found = session.scalars(select(AliasRow).where(*live).order_by(AliasRow.name))
        return [alias_info(row, alias, alias.number) for alias in found if alias.number is not None]

    @reads
    def alias_history(  # noqa: PLR0917 - a model is named by two words
        self, session: Session, team: str, model: str, alias: str, cursor: str | None = None, limit: int = 100
    ) -> Page[AliasMove]:
        """Return a page of the moves of an alias, the newest first; also of one that was removed.

        Raises:
            ModelNotFoundError, AliasNotFoundError: there is no such live model, or it never had such an alias.
            InvalidCursorError: the cursor is not of this list.
        """
        row = get_model(session, team, model)
        if find_alias(session, row, alias) is None:
            raise alias_not_found(session, row, alias)
        query = select(AliasMoveRow).where(AliasMoveRow.model_id == row.id, AliasMoveRow.name == alias)
        moves, following = read_page(session, query, _NEWEST_FIRST, cursor, limit)
        return Page[AliasMove](items=[alias_move(move) for (move,) in moves], cursor=following)


def find_alias(session: Session, model: ModelRow, alias: str) -> AliasRow | None:
    """Return the row of an alias, also of a removed one."""
    return session.get(AliasRow, (model.id, alias), populate_existing=True)


def point_alias(
    session: Session, model: ModelRow, alias: str, number: int | None, *, by: Actor, reason: str
) -> AliasRow:
    """Point an alias at a version, or nowhere, and record the move. The caller holds the lock of the model's row."""
    now = utc_now()
    row = find_alias(session, model, alias)
    before = row.number if row else None
    if row is None:
        row = AliasRow(model_id=model.id, name=alias, revision=0)
        session.add(row)
    row.number = number
    row.revision += 1
    row.updated_at = now
    row.updated_by = by.name
    session.flush()
    session.execute(
        insert(AliasMoveRow).values(
            model_id=model.id,
            name=alias,
            revision=row.revision,
            from_number=before,
            to_number=number,
            moved_at=now,
            moved_by=by.name,
            reason=reason,
        )
    )
    note_due(session, model, before, number)
    moved = {"alias": alias, "from": before, "to": number, "reason": reason}
    record(session, by, "alias.move", team=model.team, model=model.name, version=number, **moved)
    return row


def _require_expected(model: ModelRow, name: str, alias: AliasRow | None, expected: Expected) -> None:
    number = alias.number if alias else None
    if expected == "any" or (number is None and expected == "absent"):
        return
    if alias is not None and number is not None and alias.revision == expected:
        return
    full = f"`{name}` of {model.team}/{model.name}"
    if alias is None:
        raise PreconditionFailedError(f"{full} does not exist. Create it without a revision.", revision=None)
    deed = f"was moved to version {number}" if number is not None else "was removed"
    when = alias.updated_at.isoformat(timespec="seconds")
    raise PreconditionFailedError(
        f"{full} {deed} by {alias.updated_by} at {when}. Look at it again, then repeat with its new revision.",
        revision=alias.revision if number is not None else None,
        version=number,
        updated_by=alias.updated_by,
        updated_at=alias.updated_at.isoformat(),
    )
