"""Tokens in the catalog: the digests of their secrets, whose they are, what they are good for."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, bindparam, func, select, update
from sqlalchemy.orm import Session

from registry.errors import AuthenticationRequiredError, ConflictError, TokenNotFoundError
from registry.schema import Page
from registry.teams import Role, Scope, TokenCreate, TokenInfo, TokenKind
from storage.metadata.asking import Question, Rows
from storage.metadata.audit import record
from storage.metadata.pages import Order, read_page
from storage.metadata.records import Actor, KnownToken, Secret, Word
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.team_tables import MemberRow, TokenRow, UserRow
from storage.metadata.users import get_user

MAX_TOKENS = 200
"""Live ones of one user; JWTs of jobs and sessions of browsers do not count, for they end by themselves."""
_PREFIXES_AT_ONCE = 1000
"""In one statement: databases take tens of thousands of values in each, and no more."""
_NEWEST_FIRST = Order("-id", (TokenRow.id,), (int,))
_BY_PREFIX = Question(
    select(
        TokenRow.digest,
        TokenRow.expires_at,
        TokenRow.revoked_at,
        TokenRow.last_used_at,
        TokenRow.scopes,
        TokenRow.targets,
        TokenRow.kind,
        TokenRow.issuer,
        TokenRow.subject,
        UserRow.name,
        UserRow.is_administrator,
        UserRow.disabled_at,
        MemberRow.team,
        MemberRow.role,
    )
    .select_from(TokenRow)
    .join(UserRow, UserRow.id == TokenRow.user_id)
    .outerjoin(MemberRow, MemberRow.user_id == UserRow.id)
    .where(TokenRow.prefix == bindparam("prefix"))
)
"""A row for each team that its holder is a member of, and one where there is none."""


class Tokens(Transactional):
    """The part of the catalog that knows tokens."""

    @writes
    def create_token(self, session: Session, user: str, create: TokenCreate, secret: Secret, by: Actor) -> TokenInfo:
        """Make a token; one that its owner makes ends with the token that they made it with.

        Raises:
            UserNotFoundError: there is no such user.
            AuthenticationRequiredError: the token that makes it was revoked meanwhile.
            ConflictError: the user has as many as anybody may have.
        """
        return make_token(session, user, create, secret, by)

    def find_token(self, prefix: str, *, at_once: bool = False) -> KnownToken | None:
        """Return what is known of the token that begins like this, live or not.

        With `at_once` for whoever must not wait: None also where that would take waiting.
        """
        values = {"prefix": prefix}
        rows = self.database.ask_at_once(_BY_PREFIX, values) if at_once else self.database.ask(_BY_PREFIX, values)
        return _known(prefix, rows or ())

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
        """End a token at once, and those that its owner made with it, also where the token itself ended before.

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
        end_tokens(session, [row], user, by)
        return _token_info(row, user)

    @writes
    def note_token_used(self, session: Session, prefix: str) -> None:
        """Keep when a token was used."""
        session.execute(update(TokenRow).where(TokenRow.prefix == prefix).values(last_used_at=utc_now()))


def _known(prefix: str, rows: Rows) -> KnownToken | None:
    if not rows:
        return None
    digest, expires_at, revoked_at, last_used_at, scopes, targets, kind, issuer, subject, *holder, _, _ = rows[0]
    user, is_administrator, disabled_at = holder
    has_expired = expires_at is not None and expires_at <= utc_now()
    return KnownToken(
        prefix=prefix,
        digest=digest,
        is_live=revoked_at is None and disabled_at is None and not has_expired,
        user=user,
        is_administrator=is_administrator,
        roles={row[-2]: Role(row[-1]) for row in rows if row[-2] is not None},
        scopes=frozenset(map(Scope, scopes)),
        targets=frozenset(targets),
        expires_at=expires_at,
        last_used_at=last_used_at,
        kind=kind,
        word=None if issuer is None or subject is None else Word(issuer, subject),
    )


def make_token(
    session: Session, user: str, create: TokenCreate, secret: Secret, by: Actor, *, word: Word | None = None
) -> TokenInfo:
    """Make a token as somebody asked for it, and record that.

    Raises:
        UserNotFoundError: there is no such user.
        AuthenticationRequiredError: the token that makes it was revoked meanwhile.
        ConflictError: the user has as many as anybody may have.
    """
    require_live(session, by.token)
    owner = get_user(session, user)
    _require_room(session, owner)
    scopes, targets = sorted(set(create.scopes)), sorted(set(create.targets))
    row = add_token(
        session,
        owner,
        secret,
        name=create.name,
        scopes=scopes,
        targets=targets,
        created_by=by.name,
        made_by=by.token if user == by.name else None,
        word=word,
    )
    record(session, by, "token.create", user=user, prefix=row.prefix, name=row.name, scopes=scopes, targets=targets)
    return _token_info(row, user)


def add_token(
    session: Session,
    owner: UserRow,
    secret: Secret,
    *,
    name: str,
    scopes: Sequence[str],
    targets: Sequence[str],
    created_by: str,
    kind: TokenKind = "made",
    made_by: str | None = None,
    word: Word | None = None,
) -> TokenRow:
    """Insert the row of a token. Where another transaction had the prefix first, this one is repeated."""
    row = TokenRow(
        prefix=secret.prefix,
        digest=secret.digest,
        user_id=owner.id,
        name=name,
        scopes=list(scopes),
        targets=list(targets),
        created_at=utc_now(),
        created_by=created_by,
        expires_at=secret.expires_at,
        made_by=made_by,
        kind=kind,
        issuer=word and word.issuer,
        subject=word and word.subject,
    )
    session.add(row)
    session.flush()
    return row


def end_token(session: Session, row: TokenRow, user: str, by: Actor) -> None:
    """End a token of a user, and none that was made with it; one that was ended stays as it is."""
    if row.revoked_at is None:
        row.revoked_at, row.revoked_by = utc_now(), by.name
        record(session, by, "token.revoke", user=user, prefix=row.prefix)


def end_tokens(session: Session, rows: Sequence[TokenRow], user: str, by: Actor) -> None:
    """End tokens of a user, and the live ones that were made with them, also where these were ended before.

    A session that was signed out, or has expired, leaves the command line's token that was made with it.
    """
    generation = list(rows)
    while generation:
        for row in generation:
            end_token(session, row, user, by)
        # Whoever makes one with them holds their rows until it is there, or waits and finds them ended.
        session.flush()
        generation = _made_with(session, [row.prefix for row in generation])


def _made_with(session: Session, prefixes: Sequence[str]) -> list[TokenRow]:
    live = TokenRow.revoked_at.is_(None), _not_expired()
    batches = (prefixes[at : at + _PREFIXES_AT_ONCE] for at in range(0, len(prefixes), _PREFIXES_AT_ONCE))
    queries = (select(TokenRow).where(TokenRow.made_by.in_(batch), *live) for batch in batches)
    return [row for query in queries for row in session.scalars(query)]


def _not_expired() -> ColumnElement[bool]:
    """Return the condition that a token's time is not up."""
    return TokenRow.expires_at.is_(None) | (TokenRow.expires_at > utc_now())


def _require_room(session: Session, owner: UserRow) -> None:
    live = TokenRow.user_id == owner.id, TokenRow.kind == "made", TokenRow.revoked_at.is_(None)
    if (session.scalar(select(func.count()).select_from(TokenRow).where(*live, _not_expired())) or 0) >= MAX_TOKENS:
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
    # Whoever revokes it waits until this transaction ends, or was first.
    if session.scalar(query.where(*live, _not_expired()).with_for_update(read=True)) is None:
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
