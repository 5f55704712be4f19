"""The client's methods about people: who may do what in which team, tokens, and what was done."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from registry.client.connected import Connected
from registry.client.listing import iter_pages
from registry.client.push import say_invalid
from registry.client.results import Listing
from registry.client.transport import Query, Transport, route
from registry.errors import InvalidRequestError
from registry.fields import WireModel
from registry.names import check_name, check_team
from registry.schema import Page
from registry.teams import (
    AuditEntry,
    MemberInfo,
    MemberUpdate,
    NewToken,
    QuotaUpdate,
    Role,
    Scope,
    TeamInfo,
    TeamUpdate,
    TokenCreate,
    TokenInfo,
    UnsafePolicy,
    UserCreate,
    UserInfo,
    UserUpdate,
    WhoAmI,
)

BodyT = TypeVar("BodyT", bound=WireModel)
_TOKEN = re.compile(r"wb_[a-z2-7]{16}(?![a-z2-7])")


class Governing(Connected):
    """Teams, users, tokens and the audit of a service."""

    def whoami(self) -> WhoAmI:
        """Return who the service takes you for, your roles, and what your token is for."""
        return self._online().get(WhoAmI, "whoami")

    def teams(self, *, limit: int | None = None) -> Listing[TeamInfo]:
        """Return your teams; for administrators all of them."""
        return Listing(iter_pages(self._online(), Page[TeamInfo], "teams", (), limit))

    def team(self, name: str) -> TeamInfo:
        """Return a team's rules, and your role in it.

        Raises:
            TeamNotFoundError: there is none, or you are no member.
        """
        return self._online().get(TeamInfo, _team_route(name))

    def create_team(self, name: str) -> TeamInfo:
        """Make a team.

        Raises:
            PermissionDeniedError: you are no administrator. TeamExistsError: it is there.
        """
        return self._online().call(TeamInfo, "PUT", _team_route(name))

    def update_team(
        self,
        name: str,
        *,
        protected_aliases: Iterable[str] | None = None,
        code_pushed_by: Role | Literal["reader", "writer", "maintainer", "admin", "nobody"] | None = None,
        code_opened_by: Role | Literal["reader", "writer", "maintainer", "admin"] | None = None,
        unsafe: UnsafePolicy | None = None,
    ) -> TeamInfo:
        """Change a team's rules. What is left out stays.

        Args:
            name: the team.
            protected_aliases: all names that only maintainers may move; an empty list for none.
            code_pushed_by: the least role that may push files that run code when they are opened, or `nobody`.
            code_opened_by: the least role that may download them.
            unsafe: whether files that would do harm are refused or quarantined.

        Raises:
            PermissionDeniedError: you are no admin of the team.
        """
        given: dict[str, Any] = {"code_opened_by": code_opened_by, "unsafe": unsafe}
        given = {member: value for member, value in given.items() if value is not None}
        if protected_aliases is not None:
            given["protected_aliases"] = list(protected_aliases)
        if code_pushed_by is not None:
            given["code_pushed_by"] = None if code_pushed_by == "nobody" else code_pushed_by
        return self._online().call(TeamInfo, "PATCH", _team_route(name), body=_body(TeamUpdate, given))

    def update_quota(self, name: str, **limits: int | None) -> TeamInfo:
        """Change how much a team may keep. What is left out stays; None is for no limit.

        Args:
            name: the team.
            **limits: `max_bytes` of all its versions that are not purged, `max_versions`, `max_artifact_bytes`.

        Raises:
            PermissionDeniedError: you are no administrator.
        """
        path = _team_route(name, "quota")
        return self._online().call(TeamInfo, "PATCH", path, body=_body(QuotaUpdate, limits))

    def members(self, team: str) -> Listing[MemberInfo]:
        """Return a team's members and their roles."""
        return Listing(iter_pages(self._online(), Page[MemberInfo], _team_route(team, "members"), (), None))

    def set_member(self, team: str, user: str, role: Role | str) -> MemberInfo:
        """Give a user a role in a team, whatever they had there before.

        Raises:
            PermissionDeniedError: you are no admin of the team. UserNotFoundError: there is no such user.
        """
        body = _body(MemberUpdate, {"role": role})
        return self._online().call(
            MemberInfo, "PUT", _team_route(team, "members", check_name(user, "user name")), body=body
        )

    def remove_member(self, team: str, user: str) -> None:
        """Take a user's role in a team away; from their next request on they have none.

        Raises:
            PermissionDeniedError: you are no admin of the team. UserNotFoundError: they are no member.
        """
        self._online().send("DELETE", _team_route(team, "members", check_name(user, "user name")))

    def users(self, *, limit: int | None = None) -> Listing[UserInfo]:
        """Return all users; for administrators."""
        return Listing(iter_pages(self._online(), Page[UserInfo], "users", (), limit))

    def create_user(self, name: str, *, administrator: bool = False) -> UserInfo:
        """Make a user, who can do nothing before they have a role somewhere or are an administrator.

        Raises:
            PermissionDeniedError: you are no administrator. UserExistsError: there is one.
        """
        body = UserCreate(administrator=administrator)
        return self._online().call(UserInfo, "PUT", route("users", check_name(name, "user name")), body=body)

    def update_user(self, name: str, *, administrator: bool | None = None, disabled: bool | None = None) -> UserInfo:
        """Make a user an administrator or not, shut them out or let them in again. What is left out stays.

        Raises:
            PermissionDeniedError: you are no administrator. UserNotFoundError: there is none.
            ConflictError: it is you, who would be shut out.
        """
        given = {"administrator": administrator, "disabled": disabled}
        body = _body(UserUpdate, {member: value for member, value in given.items() if value is not None})
        return self._online().call(UserInfo, "PATCH", route("users", check_name(name, "user name")), body=body)

    def tokens(self, *, user: str | None = None, limit: int | None = None) -> Listing[TokenInfo]:
        """Return your tokens, the newest first, without their secrets; administrators also those of `user` or `*`."""
        return Listing(iter_pages(self._online(), Page[TokenInfo], "tokens", [("user", user)], limit))

    def create_token(
        self,
        name: str,
        *,
        scopes: Iterable[Scope | str] = (Scope.READ,),
        targets: Iterable[str] = (),
        days: int | None = 90,
        user: str | None = None,
    ) -> NewToken:
        """Make a token that can do no more than yours. Its secret, `.token`, is told this once.

        Args:
            name: what it is for.
            scopes: what it may be used for: `read`, `push`, `promote`, `admin`.
            targets: the teams (`vision`) and models (`vision/resnet50`) that it is good for; empty for all of yours.
            days: how long it lives; None for as long as the token that makes it.
            user: whose it is, for administrators; else yours.

        Raises:
            PermissionDeniedError: it could do more than yours, or it is for somebody else.
        """
        given = {"name": name, "scopes": list(scopes), "targets": list(targets), "expires_in_days": days}
        body = _body(TokenCreate, given | ({} if user is None else {"user": user}))
        return self._online().call(NewToken, "POST", "tokens", body=body)

    def revoke_token(self, prefix: str) -> TokenInfo:
        """End a token by how it begins (`wb_…`); it is refused from the next request on.

        Raises:
            TokenNotFoundError: there is none, or it is somebody else's.
            InvalidRequestError: no token begins like that.
        """
        return self._online().call(TokenInfo, "DELETE", route("tokens", token_prefix(prefix)))

    def audit(
        self,
        *,
        team: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 100,
    ) -> Listing[AuditEntry]:
        """Return what was done, the newest first: in a team for its admins, everywhere for administrators.

        Args:
            team: in this team.
            actor: by this user.
            action: of this kind, such as `version.push`.
            model: to the models of this name (without the team).
            since: then or later.
            until: before then.
            limit: entries at most; None for all.

        Raises:
            PermissionDeniedError: you may not see it.
        """
        query = audit_query(team=team, actor=actor, action=action, model=model, since=since, until=until)
        return Listing(iter_pages(self._online(), Page[AuditEntry], "audit", query, limit))

    def export_audit(self, query: Query = ()) -> Iterator[bytes]:
        """Yield all of the audit that fits an `audit_query` as lines of JSON, in pieces that may end within a line."""
        with self._online().open("GET", "audit/export", query=query) as incoming:
            yield from incoming.iter_pieces()

    def _online(self) -> Transport:
        return self.connection.resolver.online()


def token_prefix(text: str) -> str:
    """Return how a token begins; of a whole token the secret is left off, which belongs in no URL.

    Raises:
        InvalidRequestError: no token begins like that.
    """
    found = _TOKEN.match(text)
    if found is None:
        raise InvalidRequestError(
            "A token is named by how it begins, `wb_` and 16 letters and digits: see `weighbridge token list`."
        )
    return found[0]


def audit_query(*, since: datetime | None = None, until: datetime | None = None, **members: str | None) -> Query:
    """Return the query of the audit's routes; moments without a time zone are local ones, as in Python."""
    moments = {"since": since, "until": until}
    told = {name: moment.astimezone(UTC).isoformat() for name, moment in moments.items() if moment is not None}
    return [*members.items(), *told.items()]


def _team_route(team: str, *more: str) -> str:
    return route("teams", check_team(team), *more)


def _body(shape: type[BodyT], given: dict[str, Any]) -> BodyT:
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        raise InvalidRequestError(say_invalid(error)) from error
