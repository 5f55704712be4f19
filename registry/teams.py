"""Teams, their members, users and tokens as they travel between service and client."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field

from registry.fields import AnswerModel, Text, WireModel
from registry.names import check_alias

MAX_PROTECTED_ALIASES = 100
MAX_TOKEN_TARGETS = 100


class Role(StrEnum):
    """What a member of a team may do there; each role may do what those before it may."""

    READER = "reader"
    WRITER = "writer"
    MAINTAINER = "maintainer"
    ADMIN = "admin"

    def reaches(self, least: "Role") -> bool:
        """Return whether this role may do what `least` may."""
        order = list(Role)
        return order.index(self) >= order.index(least)


class Scope(StrEnum):
    """What a token may be used for. A token does what its scopes *and* its owner's roles allow."""

    READ = "read"
    PUSH = "push"
    PROMOTE = "promote"
    ADMIN = "admin"


Visibility: TypeAlias = Literal["team", "everyone"]
"""Who may read a model: its team, or everyone who has a token."""
UnsafePolicy: TypeAlias = Literal["refuse", "quarantine"]
"""What happens to a push with files that would do harm."""
TokenKind: TypeAlias = Literal["made", "job", "session"]
"""How a token began: somebody made it, a job came with a JWT, or somebody signed in with a browser."""
Limit: TypeAlias = Annotated[int, Field(ge=0, le=(1 << 63) - 1)] | None


class MemberUpdate(WireModel):
    """The role that somebody is given in a team."""

    role: Role


class MemberInfo(AnswerModel):
    """Somebody's role in a team; `by_group` where it follows from their groups at the identity provider."""

    team: str
    user: str
    role: Role
    by_group: bool = False
    added_at: datetime
    added_by: str


class TeamUpdate(WireModel):
    """What changes of a team's rules: members left out stay as they are.

    Attributes:
        protected_aliases: names that only maintainers may move.
        code_pushed_by: the least role that may push files that run code when they are opened; null for nobody.
        code_opened_by: the least role that may download them.
        unsafe: whether files that would do harm are refused or quarantined.
    """

    protected_aliases: Annotated[
        list[Annotated[str, AfterValidator(check_alias)]], Field(max_length=MAX_PROTECTED_ALIASES)
    ] = []
    code_pushed_by: Role | None = None
    code_opened_by: Role = Role.READER
    unsafe: UnsafePolicy = "refuse"


class QuotaUpdate(WireModel):
    """What changes of the room that a team has: members left out stay as they are, null is for no limit.

    Attributes:
        max_bytes: of all versions that are not purged, deleted ones too; equal files count each time.
        max_versions: how many versions may be there that are not purged.
        max_artifact_bytes: the largest file; the installation's limit holds too.
    """

    max_bytes: Limit = None
    max_versions: Limit = None
    max_artifact_bytes: Limit = None


class TeamInfo(AnswerModel):
    """A team, its rules (see `TeamUpdate`), its limits (see `QuotaUpdate`), and how much of them is used.

    `role` is the caller's own, None where they are no member.
    """

    name: str
    role: Role | None = None
    protected_aliases: list[str] = []
    code_pushed_by: Role | None = Role.WRITER
    code_opened_by: Role = Role.READER
    unsafe: UnsafePolicy = "refuse"
    max_bytes: int | None = None
    max_versions: int | None = None
    max_artifact_bytes: int | None = None
    stored_bytes: int = 0
    version_count: int = 0
    created_at: datetime
    created_by: str


class UserCreate(WireModel):
    """A new user."""

    administrator: bool = False


class UserUpdate(WireModel):
    """What changes of a user. Without `disabled_at` nobody can come in as them, whatever token they hold."""

    administrator: bool | None = None
    disabled: bool | None = None


class UserInfo(AnswerModel):
    """A person or a job that may have tokens. An administrator may do everything in the installation."""

    name: str
    administrator: bool = False
    created_at: datetime
    created_by: str
    disabled_at: datetime | None = None


class TokenCreate(WireModel):
    """A new token.

    Attributes:
        name: what it is for, in the words of who makes it.
        user: whose it is; without it the caller's own.
        scopes: what it may be used for.
        targets: teams (`vision`) and models (`vision/resnet50`) that it is good for; empty for all of its owner's.
        expires_in_days: how long it lives; null for ever.
    """

    name: Annotated[Text, Field(min_length=1, max_length=200)]
    user: Annotated[str, Field(max_length=96)] | None = None
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] = [Scope.READ]
    targets: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=MAX_TOKEN_TARGETS)] = []
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = 90


class TokenInfo(AnswerModel):
    """A token, without its secret. `prefix` is how it begins, which is how people recognise it.

    `issuer` and `subject` say on whose word it was made: of whom, where another service said who they are.
    """

    prefix: str
    name: str
    user: str
    scopes: list[Scope]
    targets: list[str] = []
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    kind: TokenKind = "made"
    issuer: str | None = None
    subject: str | None = None


class NewToken(TokenInfo):
    """A token with its secret, which is told this once."""

    token: Annotated[str, Field(repr=False)]  # notebooks keep what they show


class WhoAmI(AnswerModel):
    """Who the service takes the caller for, and what they may do where."""

    name: str
    administrator: bool
    roles: dict[str, Role] = {}
    scopes: list[Scope] = []
    targets: list[str] = []
    token: str | None = None
    expires_at: datetime | None = None


class OverrideUpdate(WireModel):
    """Why bytes that would do harm may be downloaded all the same."""

    reason: Annotated[Text, Field(min_length=1, max_length=2_000)]


class OverrideInfo(AnswerModel):
    """Bytes in quarantine, by their digest, that admins of a team may download, and why."""

    team: str
    sha256: str
    reason: str
    created_at: datetime
    created_by: str


class AuditEntry(AnswerModel):
    """One thing that somebody did.

    Attributes:
        actor: who, as the service knew them then.
        token: how their token begins; None where there was none.
        address: where the request came from.
        action: what, as `model.delete`.
        detail: what else belongs to it, such as a reason.
    """

    id: int
    at: datetime
    actor: str
    token: str | None = None
    address: str | None = None
    request_id: str | None = None
    action: str
    team: str | None = None
    model: str | None = None
    version: int | None = None
    detail: dict[str, Any] = {}
