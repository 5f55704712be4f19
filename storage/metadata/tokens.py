"""Tokens in the catalog: the digests of their secrets, whose they are, what they are good for."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from registry.errors import AuthenticationRequiredError, ConflictError, TokenNotFoundError
from registry.schema import Page
from registry.teams import Role, Scope, TokenCreate, TokenInfo
from storage.metadata.audit import record
from storage.metadata.pages import Order, read_page
from storage.metadata.records import Actor, KnownToken, Word
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.team_tables import MemberRow, TokenRow, UserRow
from storage.metadata.users import get_user

MAX_TOKENS = 200
"""Live ones of one user; JWTs of jobs and sessions of browsers do not count, for they end by themselves."""
_NEWEST_FIRST = Order("-id", (TokenRow.id,), (int,))


class Tokens(Transactional):
    """The part of the catalog that knows tokens."""

    @writes
    def create_token(  # noqa: PLR0917 - a token is all of these
        self,
        session: Session,
        user: str,
        create: TokenCreate,
        prefix: str,
        digest: str,
        expires_at: datetime | None,
        by: Actor,
        word: Word | None = None,
    ) -> TokenInfo:
        """Make a token, known by its prefix and the digest of its secret; it ends with the owner's that makes it.

        One that is made on the word of an identity provider outlives the session that asked for it.

        Raises:
            UserNotFoundError: there is no such user.
            AuthenticationRequiredError: the token that makes it was revoked meanwhile.
            ConflictError: the user has as many as anybody may have.
        """
        require_live(session, by.token)
        owner = get_user(session, user)
        _require_room(session, owner)
        row = TokenRow(
            prefix=prefix,
            digest=digest,
            user_id=owner.id,
            name=create.name,
            scopes=sorted(set(create.scopes)),
            targets=sorted(set(create.targets)),
            created_at=utc_now(),
            created_by=by.name,
            expires_at=expires_at,
            made_by=by.token if user == by.name and word is None else None,
            issuer=word and word.issuer,
            subject=word and word.subject,
        )
        session.add(row)
        session.flush()
        record(
            session,
            by,
            "token.create",
            user=user,
            prefix=prefix,
            name=create.name,
            scopes=row.scopes,
            targets=row.targets,
        )
        return _token_info(row, user)

    @reads
    def find_token(self, session: Session, prefix: str) -> KnownToken | None:
        """Return what is known of the token that begins like this, live or not."""
        query = select(TokenRow, UserRow).join(UserRow, UserRow.id == TokenRow.user_id)
        found = session.execute(query.where(TokenRow.prefix == prefix)).one_or_none()
        if found is None:
            return None
        token, user = found
        members = select(MemberRow.team, MemberRow.role).where(MemberRow.user_id == user.id)
        has_expired = token.expires_at is not None and token.expires_at <= utc_now()
        return KnownToken(
            prefix=prefix,
            digest=token.digest,
            is_live=token.revoked_at is None and user.disabled_at is None and not has_expired,
            user=user.name,
            is_administrator=user.is_administrator,
            roles={team: Role(role) for team, role in session.execute(members)},
            scopes=frozenset(map(Scope, token.scopes)),
            targets=frozenset(token.targets),
            expires_at=token.expires_at,
            last_used_at=token.last_used_at,
            kind=token.kind,
            word=None if token.issuer is None or token.subject is None else Word(token.issuer, token.subject),
        )

    @reads
    def list_tokens(
        self, session: Session, user: str | None, cursor: str | None = None, limit: int = 100
    ) -> Page[TokenInfo]:
        """Return a page of a user's tokens, or of all, the newest first.

        Raises:
            InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
        """
        query = select(TokenRow, UserRow.name).join(UserRow, UserRow.id == TokenRow.user_id)
        if user is not None:
            query = query.where(UserRow.name == user)
        rows, following = read_page(session, query, _NEWEST_FIRST, cursor, limit)
        return Page[TokenInfo](items=[_token_info(row, name) for row, name in rows], cursor=following)

    @writes
    def revoke_token(self, session: Session, prefix: str, by: Actor) -> TokenInfo:
        """End a token at once, and those that its owner made with it; one that has ended stays as it is.

        Args:
            session: of this transaction.
            prefix: how it begins.
            by: who ends it.

        Raises:
            TokenNotFoundError: there is none.
        """
        query = select(TokenRow, UserRow.name).join(UserRow, UserRow.id == TokenRow.user_id)
        found = session.execute(query.where(TokenRow.prefix == prefix)).one_or_none()
        if found is None:
            raise TokenNotFoundError(f"There is no token {prefix}.")
        row, user = found
        if row.revoked_at is None:
            end_tokens(session, [row], user, by)
        return _token_info(row, user)

    @writes
    def note_token_used(self, session: Session, prefix: str) -> None:
        """Keep when a token was used."""
        session.execute(update(TokenRow).where(TokenRow.prefix == prefix).values(last_used_at=utc_now()))


def end_tokens(session: Session, rows: Sequence[TokenRow], user: str, by: Actor) -> None:
    """End live tokens of a user, and those that were made with them."""
    waiting = list(rows)
    while waiting:
        ended = waiting.pop()
        ended.revoked_at, ended.revoked_by = utc_now(), by.name
        record(session, by, "token.revoke", user=user, prefix=ended.prefix)
        made = TokenRow.made_by == ended.prefix, TokenRow.revoked_at.is_(None)
        waiting += session.scalars(select(TokenRow).where(*made)).all()


def _require_room(session: Session, owner: UserRow) -> None:
    live = TokenRow.user_id == owner.id, TokenRow.kind == "made", TokenRow.revoked_at.is_(None)
    lasting = TokenRow.expires_at.is_(None) | (TokenRow.expires_at > utc_now())
    if (session.scalar(select(func.count()).select_from(TokenRow).where(*live, lasting)) or 0) >= MAX_TOKENS:
        raise ConflictError(f"{owner.name} has {MAX_TOKENS} tokens already. Revoke those that nobody needs.")


def require_live(session: Session, prefix: str | None) -> None:
    """Return when the token, if any, is still good; for transactions that end work which took long.

    Raises:
        AuthenticationRequiredError: it was revoked meanwhile, or its owner was shut out.
    """
    if prefix is None:
        return
    query = select(TokenRow.id).join(UserRow, UserRow.id == TokenRow.user_id)
    live = TokenRow.prefix == prefix, TokenRow.revoked_at.is_(None), UserRow.disabled_at.is_(None)
    lasting = TokenRow.expires_at.is_(None) | (TokenRow.expires_at > utc_now())
    # Whoever revokes it waits until this transaction ends, or was first.
    if session.scalar(query.where(*live, lasting).with_for_update(read=True)) is None:
        raise AuthenticationRequiredError("The token was revoked meanwhile, and nothing was changed. Use another.")


def _token_info(row: TokenRow, user: str) -> TokenInfo:
    return TokenInfo(
        prefix=row.prefix,
        name=row.name,
        user=user,
        scopes=[Scope(scope) for scope in row.scopes],
        targets=row.targets,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        kind=row.kind,
        issuer=row.issuer,
        subject=row.subject,
    )
