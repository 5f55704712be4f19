"""The tables of teams, users, tokens and the record of what they did."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.identities import Use
from registry.teams import Role, TokenKind, UnsafePolicy
from storage.metadata.columns import Base, Id, Name


class TeamRow(Base):
    """A team, its rules and its limits. It begins with its first model, or when somebody makes it.

    `stored_bytes` and `version_count` follow from its versions that are not purged and are kept here, so that no push
    counts them. Whoever publishes or purges changes them last, for until the transaction ends the row is theirs.
    """

    __tablename__ = "teams"

    name: Mapped[Name] = mapped_column(primary_key=True)
    protected_aliases: Mapped[list[str]]
    code_pushed_by: Mapped[Role | None] = mapped_column(Text())
    code_opened_by: Mapped[Role] = mapped_column(Text())
    unsafe: Mapped[UnsafePolicy] = mapped_column(Text())
    max_bytes: Mapped[int | None]
    max_versions: Mapped[int | None]
    max_artifact_bytes: Mapped[int | None]
    stored_bytes: Mapped[int] = mapped_column(default=0)
    version_count: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class UserRow(Base):
    """A person or a job. Never deleted, so that a name in the record always means the same one.

    `administrator_by_group` where a group at the identity provider made them an administrator, and no person.
    """

    __tablename__ = "users"

    id: Mapped[Id]
    name: Mapped[Name] = mapped_column(unique=True)
    is_administrator: Mapped[bool]
    administrator_by_group: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    disabled_at: Mapped[datetime | None]


class IdentityRow(Base):
    """A user as an issuer knows them: whoever comes on its word with this subject is the user."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"), Index(None, "user_id"))

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    issuer: Mapped[str]
    subject: Mapped[str]
    use: Mapped[Use] = mapped_column(Text())
    scopes: Mapped[list[str]]
    targets: Mapped[list[str]]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class MemberRow(Base):
    """A user's role in a team; `by_group` where it follows from their groups at the identity provider."""

    __tablename__ = "members"
    __table_args__ = (Index(None, "user_id"),)

    team: Mapped[Name] = mapped_column(ForeignKey("teams.name"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[Role] = mapped_column(Text())
    by_group: Mapped[bool] = mapped_column(default=False)
    added_at: Mapped[datetime]
    added_by: Mapped[str]


class TokenRow(Base):
    """A token: the digest of its secret, never the secret. A revoked one stays, for the record names its prefix.

    `made_by` is the prefix of the owner's token that made it, and that ends it when it is revoked: not when it expires,
    is forgotten or signs out. `issuer` and `subject` are whose word it was made on, where there was one. Of a `job` the
    secret is the JWT that it sends.
    """

    __tablename__ = "tokens"
    __table_args__ = (
        UniqueConstraint("prefix"),
        Index(None, "user_id", "id"),
        Index(None, "user_id", "expires_at"),
        Index(None, "made_by"),
        Index(None, "kind", "expires_at"),
    )

    id: Mapped[Id]
    prefix: Mapped[str]
    digest: Mapped[str]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    scopes: Mapped[list[str]]
    targets: Mapped[list[str]]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]
    made_by: Mapped[str | None]
    kind: Mapped[TokenKind] = mapped_column(Text(), default="made")
    issuer: Mapped[str | None]
    subject: Mapped[str | None]


class OverrideRow(Base):
    """Why bytes that would do harm may be downloaded by admins of a team all the same."""

    __tablename__ = "overrides"

    team: Mapped[Name] = mapped_column(ForeignKey("teams.name"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class AuditRow(Base):
    """One thing that somebody did. The database refuses to change or delete a row."""

    __tablename__ = "audit"
    __table_args__ = (
        Index(None, "team", "id"),
        Index(None, "actor", "id"),
        Index(None, "at", "id"),
    )

    id: Mapped[Id]
    at: Mapped[datetime]
    actor: Mapped[Name]
    token: Mapped[str | None]
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    action: Mapped[str]
    team: Mapped[Name | None]
    model: Mapped[str | None]
    version: Mapped[int | None]
    detail: Mapped[dict[str, Any] | None]
