"""Users in the catalog: who there is, and who administers the installation."""

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from registry.errors import ConflictError, UserExistsError, UserNotFoundError
from registry.schema import Page
from registry.teams import UserInfo, UserUpdate
from storage.metadata.audit import record
from storage.metadata.pages import Order, read_page
from storage.metadata.records import Actor
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.team_tables import UserRow

_BY_NAME = Order("name", (UserRow.name,), (str,))


class Users(Transactional):
    """The part of the catalog that knows users."""

    @writes
    def create_user(self, session: Session, name: str, *, is_administrator: bool, by: Actor) -> UserInfo:
        """Make a user.

        Raises:
            UserExistsError: there is one of that name.
        """
        statement = insert_for(session, UserRow).values(
            name=name, is_administrator=is_administrator, created_at=utc_now(), created_by=by.name
        )
        if session.scalar(statement.on_conflict_do_nothing().returning(UserRow.id)) is None:
            raise UserExistsError(f"The user {name} exists already.")
        record(session, by, "user.create", user=name, administrator=is_administrator)
        return _user_info(get_user(session, name))

    @reads
    def get_user(self, session: Session, name: str) -> UserInfo:
        """Return a user.

        Raises:
            UserNotFoundError: there is none.
        """
        return _user_info(get_user(session, name))

    @reads
    def list_users(self, session: Session, cursor: str | None = None, limit: int = 100) -> Page[UserInfo]:
        """Return a page of all users, by name.

        Raises:
            InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
        """
        rows, following = read_page(session, select(UserRow), _BY_NAME, cursor, limit)
        return Page[UserInfo](items=[_user_info(row) for (row,) in rows], cursor=following)

    @writes
    def update_user(self, session: Session, name: str, update: UserUpdate, by: Actor) -> UserInfo:
        """Change a user; what is left out stays.

        Raises:
            UserNotFoundError: there is none.
            ConflictError: one administrator with a token would shut out the last one.
        """
        administrators = select(UserRow).where(UserRow.is_administrator.is_(True), UserRow.disabled_at.is_(None))
        live = {each.id for each in session.scalars(administrators.with_for_update())}
        row = get_user(session, name)
        goes = update.administrator is False or update.disabled is True
        if goes and live == {row.id} and by.token is not None:
            raise ConflictError(f"{name} is the last administrator. Make another one first.")
        if update.administrator is not None:
            row.is_administrator, row.administrator_by_group = update.administrator, False
        if update.disabled is not None:
            row.disabled_at = (row.disabled_at or utc_now()) if update.disabled else None
        record(session, by, "user.update", user=name, changes=update.model_dump(exclude_unset=True))
        return _user_info(row)

    @reads
    def has_administrator(self, session: Session) -> bool:
        """Return whether there is an administrator who can come in."""
        live = UserRow.is_administrator.is_(True), UserRow.disabled_at.is_(None)
        return bool(session.scalar(select(exists().where(*live))))


def get_user(session: Session, name: str) -> UserRow:
    """Return the row of a user.

    Raises:
        UserNotFoundError: there is none.
    """
    row = session.scalars(select(UserRow).where(UserRow.name == name)).one_or_none()
    if row is None:
        raise UserNotFoundError(f"There is no user {name}. An administrator makes one: `weighbridge user add {name}`.")
    return row


def _user_info(row: UserRow) -> UserInfo:
    return UserInfo(
        name=row.name,
        administrator=row.is_administrator,
        created_at=row.created_at,
        created_by=row.created_by,
        disabled_at=row.disabled_at,
    )
