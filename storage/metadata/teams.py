"""Teams in the catalog: their rules, and who has which role in them."""

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.errors import TeamExistsError, TeamNotFoundError, UserNotFoundError
from registry.schema import Page
from registry.teams import MemberInfo, QuotaUpdate, Role, TeamInfo, TeamUpdate
from storage.metadata.audit import record
from storage.metadata.pages import Order, read_page
from storage.metadata.records import Actor
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.team_tables import MemberRow, TeamRow, UserRow
from storage.metadata.users import get_user

DEFAULT_PROTECTED = ("prod",)
_BY_NAME = Order("name", (TeamRow.name,), (str,))
_BY_USER = Order("user", (UserRow.name,), (str,))


class Teams(Transactional):
    """The part of the catalog that knows teams."""

    @writes
    def create_team(self, session: Session, name: str, by: Actor) -> TeamInfo:
        """Make a team before its first model.

        Raises:
            TeamExistsError: it is there.
        """
        if not ensure_team(session, name, by):
            raise TeamExistsError(f"The team {name} exists already.")
        return team_info(get_team(session, name))

    @reads
    def get_team(self, session: Session, name: str) -> TeamInfo:
        """Return a team.

        Raises:
            TeamNotFoundError: there is none.
        """
        return team_info(get_team(session, name))

    @reads
    def find_team(self, session: Session, name: str) -> TeamInfo | None:
        """Return a team; None before its first model, when the default rules hold."""
        row = session.get(TeamRow, name)
        return None if row is None else team_info(row)

    @reads
    def list_teams(
        self, session: Session, names: frozenset[str] | None, cursor: str | None = None, limit: int = 100
    ) -> Page[TeamInfo]:
        """Return a page of these teams, or of all, by name.

        Raises:
            InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
        """
        query = select(TeamRow) if names is None else select(TeamRow).where(TeamRow.name.in_(names))
        rows, following = read_page(session, query, _BY_NAME, cursor, limit)
        return Page[TeamInfo](items=[team_info(row) for (row,) in rows], cursor=following)

    @writes
    def update_team(self, session: Session, name: str, update: TeamUpdate, by: Actor) -> TeamInfo:
        """Change a team's rules; what is left out stays.

        Raises:
            TeamNotFoundError: there is no such team.
        """
        row = get_team(session, name)
        changes = _change(row, update)
        record(session, by, "team.update", team=name, changes=changes)
        return team_info(row)

    @writes
    def update_quota(self, session: Session, name: str, update: QuotaUpdate, by: Actor) -> TeamInfo:
        """Change a team's limits; what is left out stays. They may be less than what is used.

        Raises:
            TeamNotFoundError: there is no such team.
        """
        row = get_team(session, name)
        changes = _change(row, update)
        record(session, by, "team.quota", team=name, changes=changes)
        return team_info(row)

    @writes
    def set_member(self, session: Session, team: str, user: str, role: Role, by: Actor) -> MemberInfo:
        """Give a user a role in a team, whatever they had there before.

        Raises:
            TeamNotFoundError, UserNotFoundError: there is no such team or user.
        """
        get_team(session, team)
        known = get_user(session, user)
        row = session.get(MemberRow, (team, known.id), with_for_update=True)
        if row is None:
            row = MemberRow(team=team, user_id=known.id)
            session.add(row)
        before, row.role, row.by_group = row.role, role, False
        row.added_at, row.added_by = utc_now(), by.name
        session.flush()
        record(session, by, "member.set", team=team, user=user, role=role, before=before)
        return _member_info(row, user)

    @writes
    def remove_member(self, session: Session, team: str, user: str, by: Actor) -> None:
        """Take a user's role in a team away.

        Raises:
            UserNotFoundError: they had none.
        """
        ids = select(UserRow.id).where(UserRow.name == user)
        membership = delete(MemberRow).where(MemberRow.team == team, MemberRow.user_id.in_(ids))
        if not session.scalars(membership.returning(MemberRow.user_id)).all():
            raise UserNotFoundError(f"{user} is no member of {team}; `weighbridge team show {team}` lists who is.")
        record(session, by, "member.remove", team=team, user=user)

    @reads
    def list_members(
        self, session: Session, team: str, cursor: str | None = None, limit: int = 100
    ) -> Page[MemberInfo]:
        """Return a page of a team's members, by name.

        Raises:
            TeamNotFoundError: there is no such team.
            InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
        """
        get_team(session, team)
        query = select(MemberRow, UserRow.name).join(UserRow, UserRow.id == MemberRow.user_id)
        rows, following = read_page(session, query.where(MemberRow.team == team), _BY_USER, cursor, limit)
        return Page[MemberInfo](items=[_member_info(row, user) for row, user in rows], cursor=following)


def _change(row: TeamRow, update: TeamUpdate | QuotaUpdate) -> dict[str, Any]:
    """Change the members that are given, and return them as JSON values."""
    changes = update.model_dump(mode="json", exclude_unset=True)
    for member, value in changes.items():
        setattr(row, member, value)
    return changes


def ensure_team(session: Session, name: str, by: Actor) -> bool:
    """Insert the row of a team with the default rules unless there is one; return whether it was inserted."""
    statement = insert_for(session, TeamRow).values(
        name=name,
        protected_aliases=list(DEFAULT_PROTECTED),
        code_pushed_by=Role.WRITER,
        code_opened_by=Role.READER,
        unsafe="refuse",
        stored_bytes=0,
        version_count=0,
        created_at=utc_now(),
        created_by=by.name,
    )
    inserted = session.scalar(statement.on_conflict_do_nothing().returning(TeamRow.name)) is not None
    if inserted:
        record(session, by, "team.create", team=name)
    return inserted


def get_team(session: Session, name: str) -> TeamRow:
    """Return the row of a team.

    Raises:
        TeamNotFoundError: there is none.
    """
    row = session.get(TeamRow, name)
    if row is None:
        raise TeamNotFoundError(
            f"There is no team {name}. Its first model makes it, or `weighbridge team create {name}`."
        )
    return row


def team_info(row: TeamRow) -> TeamInfo:
    """Return what a row says of a team, without anybody's role."""
    return TeamInfo(
        name=row.name,
        protected_aliases=row.protected_aliases,
        code_pushed_by=row.code_pushed_by,
        code_opened_by=row.code_opened_by,
        unsafe=row.unsafe,
        max_bytes=row.max_bytes,
        max_versions=row.max_versions,
        max_artifact_bytes=row.max_artifact_bytes,
        stored_bytes=row.stored_bytes,
        version_count=row.version_count,
        created_at=row.created_at,
        created_by=row.created_by,
    )


def _member_info(row: MemberRow, user: str) -> MemberInfo:
    return MemberInfo(
        team=row.team,
        user=user,
        role=row.role,
        by_group=row.by_group,
        added_at=row.added_at,
        added_by=row.added_by,
    )
