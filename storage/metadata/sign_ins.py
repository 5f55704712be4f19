"""Signing in, in the catalog: who an identity is, what their groups give them, and the session that begins."""

import shlex

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import AuthenticationRequiredError, PermissionDeniedError
from registry.identities import IdentityCreate
from registry.teams import Scope, TokenCreate, TokenInfo
from storage.metadata.audit import record
from storage.metadata.identities import add_identity, find_identity
from storage.metadata.records import Actor, Arrival, Secret, Word
from storage.metadata.session import Transactional, insert_for, utc_now, writes
from storage.metadata.team_tables import MemberRow, TokenRow, UserRow
from storage.metadata.teams import ensure_team
from storage.metadata.tokens import add_token, end_token, make_token
from storage.metadata.users import get_user

SIGN_IN = "installation"
"""Who did what follows from groups, for the record: nobody in person."""


class SignIns(Transactional):
    """The part of the catalog that lets people in on an identity provider's word."""

    @writes
    def sign_in(
        self, session: Session, arrival: Arrival, secret: Secret, address: str | None, request_id: str | None
    ) -> str:
        """Begin a session of whoever the provider signed in, and return which user they are.

        Raises:
            PermissionDeniedError: they are no user and become none, or were shut out.
        """
        by = Actor(SIGN_IN, None, address, request_id)
        user = _find_or_make(session, arrival, by)
        if user.disabled_at is not None:
            raise PermissionDeniedError(f"{user.name} was shut out here. An administrator can let you in again.")
        _follow_administrators(session, user, by, is_one=arrival.is_administrator)
        _follow_groups(session, user, arrival, by)
        add_token(
            session,
            user,
            secret,
            name="signed in by browser",
            scopes=sorted(Scope),
            targets=[],
            created_by=user.name,
            kind="session",
            word=arrival.word,
        )
        who = Actor(user.name, secret.prefix, address, request_id)
        record(session, who, "user.sign_in", user=user.name, **arrival.word._asdict())
        return user.name

    @writes
    def sign_out(self, session: Session, prefix: str, by: Actor) -> None:
        """End a session. What was made with it stays until its own time is up, or somebody revokes the session."""
        query = select(TokenRow, UserRow.name).join(UserRow, UserRow.id == TokenRow.user_id)
        found = session.execute(query.where(TokenRow.prefix == prefix, TokenRow.kind == "session")).one_or_none()
        if found is not None:
            end_token(session, found[0], found[1], by)

    @writes
    def create_lasting_token(
        self, session: Session, word: Word, create: TokenCreate, secret: Secret, by: Actor
    ) -> TokenInfo:
        """Make a token on the word that a session began on. It ends with the identity, or when the session is revoked.

        Raises:
            AuthenticationRequiredError: the identity was removed meanwhile, or the session was ended.
            ConflictError: the user has as many tokens as anybody may have.
        """
        found = find_identity(session, word)
        if found is None or found[1].name != by.name:
            raise AuthenticationRequiredError(
                f"{by.name} is no longer let in by this identity. Ask an administrator for `weighbridge user trust "
                f"{by.name} --sign-in`, and sign in again."
            )
        return make_token(session, by.name, create, secret, by, word=word)


def _find_or_make(session: Session, arrival: Arrival, by: Actor) -> UserRow:
    found = find_identity(session, arrival.word)
    if found is None and arrival.name is not None:
        statement = insert_for(session, UserRow).values(
            name=arrival.name, is_administrator=False, created_at=utc_now(), created_by=by.name
        )
        if session.scalar(statement.on_conflict_do_nothing().returning(UserRow.id)) is not None:
            record(session, by, "user.create", user=arrival.name, administrator=False)
            user = get_user(session, arrival.name)
            create = IdentityCreate(issuer=arrival.word.issuer, subject=arrival.word.subject, use="sign_in")
            if add_identity(session, user, create, by) is not None:
                return user
        found = find_identity(session, arrival.word)  # the same person may have signed in twice at once
    if found is None:
        raise PermissionDeniedError(_not_bound(arrival))
    identity, user = found
    if identity.use != "sign_in":
        raise PermissionDeniedError("This identity is bound for jobs, which send their JWT. It cannot sign in here.")
    return user


def _not_bound(arrival: Arrival) -> str:
    name = arrival.name
    command = (
        f"`weighbridge user trust {name or 'NAME'} --sign-in --issuer {shlex.quote(arrival.word.issuer)} "
        f"--subject {shlex.quote(arrival.word.subject)}`"
    )
    if name is None:
        return f"{arrival.refusal or 'You are no user here.'} An administrator can let you in as one: {command}."
    return (
        f"There is a user {name} already, who was not made by your sign-in. If that is you, ask an administrator for "
        f"{command}."
    )


def _follow_administrators(session: Session, user: UserRow, by: Actor, *, is_one: bool) -> None:
    """Make the user an administrator by their group, or end that; whoever was made one by hand stays one."""
    if is_one == user.is_administrator or (user.is_administrator and not user.administrator_by_group):
        return
    user.is_administrator = user.administrator_by_group = is_one
    record(session, by, "user.update", user=user.name, changes={"administrator": is_one}, by_group=True)


def _follow_groups(session: Session, user: UserRow, arrival: Arrival, by: Actor) -> None:
    """Give the roles of the user's groups and take those of groups that they left; roles given by hand stay."""
    rows = session.scalars(select(MemberRow).where(MemberRow.user_id == user.id).with_for_update()).all()
    members = {row.team: row for row in rows}
    for team, row in members.items():
        if row.by_group and team not in arrival.roles:
            session.delete(row)
            record(session, by, "member.remove", team=team, user=user.name, by_group=True)
    for team, role in sorted(arrival.roles.items()):
        known = members.get(team)
        if known is not None and (not known.by_group or known.role == role):
            continue
        ensure_team(session, team, by)
        before = known and known.role
        row = known or MemberRow(team=team, user_id=user.id)
        row.role, row.by_group, row.added_at, row.added_by = role, True, utc_now(), by.name
        session.add(row)
        record(session, by, "member.set", team=team, user=user.name, role=role, before=before, by_group=True)
    session.flush()
