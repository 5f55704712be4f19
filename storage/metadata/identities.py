"""Identities in the catalog: which issuer's subject is which user, and the tokens of the jobs that came by one."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.errors import ConflictError, IdentityNotFoundError
from registry.identities import IdentityCreate, IdentityInfo
from registry.teams import Scope
from storage.metadata.audit import record
from storage.metadata.records import Actor, Secret, Word
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.team_tables import IdentityRow, TokenRow, UserRow
from storage.metadata.tokens import add_token, end_tokens
from storage.metadata.users import get_user

MAX_IDENTITIES = 100
"""Of one user."""


class Identities(Transactional):
    """The part of the catalog that knows who users are elsewhere."""

    @writes
    def create_identity(self, session: Session, user: str, create: IdentityCreate, by: Actor) -> IdentityInfo:
        """Let an issuer's subject in as a user.

        Raises:
            UserNotFoundError: there is no such user.
            ConflictError: the subject is bound already, or the user has as many identities as anybody may have.
        """
        owner = get_user(session, user)
        count = select(func.count()).select_from(IdentityRow).where(IdentityRow.user_id == owner.id)
        if (session.scalar(count) or 0) >= MAX_IDENTITIES:
            raise ConflictError(f"{user} has {MAX_IDENTITIES} identities already. Make a user for each job.")
        row = add_identity(session, owner, create, by)
        if row is None:
            taken = find_identity(session, Word(create.issuer, create.subject))
            whose = taken[1].name if taken else "somebody"
            raise ConflictError(
                f"This subject of {create.issuer} is {whose} already. `weighbridge user distrust {whose}` ends that."
            )
        return _identity_info(row, user)

    @reads
    def list_identities(self, session: Session, user: str) -> list[IdentityInfo]:
        """Return who a user is elsewhere, the newest first.

        Raises:
            UserNotFoundError: there is no such user.
        """
        owner = get_user(session, user)
        query = select(IdentityRow).where(IdentityRow.user_id == owner.id).order_by(IdentityRow.id.desc())
        return [_identity_info(row, user) for row in session.scalars(query)]

    @writes
    def remove_identity(self, session: Session, user: str, identity: int, by: Actor) -> IdentityInfo:
        """Let nobody in any more by an identity, and end the tokens that were made on its word.

        Raises:
            IdentityNotFoundError: the user has none of that number.
        """
        # Whoever comes by it right now was first, and their token is seen below, or waits and finds it gone.
        row = session.get(IdentityRow, identity, with_for_update=True)
        owner = None if row is None else session.get(UserRow, row.user_id)
        if row is None or owner is None or owner.name != user:
            raise IdentityNotFoundError(
                f"{user} has no identity {identity}; `weighbridge user trusted {user}` shows those that there are."
            )
        info = _identity_info(row, user)
        end_tokens(session, _came_by(session, row), user, by)
        session.delete(row)
        record(session, by, "identity.remove", user=user, issuer=row.issuer, subject=row.subject)
        return info

    @writes
    def accept_job(
        self, session: Session, word: Word, secret: Secret, address: str | None, request_id: str | None
    ) -> bool:
        """Keep the JWT of a job as a token, if its subject is bound to a user; return whether it is one now.

        The same JWT may come twice at once: the second finds the row of the first.
        """
        found = find_identity(session, word)
        if found is None or found[0].use != "job" or found[1].disabled_at is not None:
            return False
        identity, owner = found
        known = session.scalars(select(TokenRow).where(TokenRow.prefix == secret.prefix)).one_or_none()
        if known is not None:
            return (known.issuer, known.subject, known.user_id) == (word.issuer, word.subject, owner.id)
        add_token(
            session,
            owner,
            secret,
            name="a job's JWT",
            scopes=identity.scopes,
            targets=identity.targets,
            created_by=owner.name,
            kind="job",
            word=word,
        )
        by = Actor(owner.name, secret.prefix, address, request_id)
        record(session, by, "token.accept", user=owner.name, issuer=word.issuer, subject=word.subject)
        return True

    @writes
    def forget_passed_tokens(self, session: Session, before: datetime, limit: int) -> int:
        """Delete the rows of JWTs and sessions that ended before a moment, and return how many.

        The command line's token that a session made stays, for it lives by itself.
        """
        passed = TokenRow.kind.in_(("job", "session")), TokenRow.expires_at < before
        rows = session.scalars(select(TokenRow).where(*passed).limit(limit).with_for_update(skip_locked=True)).all()
        for row in rows:
            session.delete(row)
        return len(rows)


def add_identity(session: Session, owner: UserRow, create: IdentityCreate, by: Actor) -> IdentityRow | None:
    """Insert the row of an identity; return None where its subject is bound already."""
    said: dict[str, Any] = {
        "issuer": create.issuer,
        "subject": create.subject,
        "use": create.use,
        "scopes": sorted(set(create.scopes)),
        "targets": sorted(set(create.targets)),
    }
    row = {"user_id": owner.id, "created_at": utc_now(), "created_by": by.name}
    statement = insert_for(session, IdentityRow).values(**row, **said)
    number = session.scalar(statement.on_conflict_do_nothing().returning(IdentityRow.id))
    if number is None:
        return None
    record(session, by, "identity.add", user=owner.name, **said)
    return session.get_one(IdentityRow, number)


def find_identity(session: Session, word: Word) -> tuple[IdentityRow, UserRow] | None:
    """Return what an issuer's subject is bound to. Who ends that waits for this transaction's end, or was first."""
    query = select(IdentityRow, UserRow).join(UserRow, UserRow.id == IdentityRow.user_id)
    bound = query.where(IdentityRow.issuer == word.issuer, IdentityRow.subject == word.subject)
    found = session.execute(bound.with_for_update(read=True, of=IdentityRow)).one_or_none()
    return None if found is None else (found[0], found[1])


def _came_by(session: Session, identity: IdentityRow) -> list[TokenRow]:
    """Return the tokens made on an identity's word whose time is not up; sessions that signed out, too: for theirs."""
    word = TokenRow.issuer == identity.issuer, TokenRow.subject == identity.subject
    query = select(TokenRow).where(TokenRow.user_id == identity.user_id, *word)
    # Two ranges of one index, where SQLite would read all of the user's rows for an OR.
    ranges = TokenRow.expires_at > utc_now(), TokenRow.expires_at.is_(None)
    return [row for each in ranges for row in session.scalars(query.where(each))]


def _identity_info(row: IdentityRow, user: str) -> IdentityInfo:
    return IdentityInfo(
        id=row.id,
        user=user,
        issuer=row.issuer,
        subject=row.subject,
        use=row.use,
        scopes=[Scope(scope) for scope in row.scopes],
        targets=row.targets,
        created_at=row.created_at,
        created_by=row.created_by,
    )
