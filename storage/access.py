"""Who may do what: the one function that decides. Every use case takes a `Caller` and asks it.

A caller may do something where their role in the team reaches it *and* their token was made for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from registry.teams import Role, Scope, Visibility
from storage.metadata.records import Actor


class Action(StrEnum):
    """What a use case wants to do."""

    READ = "read"
    SEE_TEAM = "see_team"
    PUSH = "push"
    ANNOTATE = "annotate"
    SHARE = "share"
    MOVE_ALIAS = "move_alias"
    MOVE_PROTECTED_ALIAS = "move_protected_alias"
    DELETE = "delete"
    PURGE = "purge"
    MANAGE_TEAM = "manage_team"
    READ_AUDIT = "read_audit"
    ADMINISTER = "administer"


class Rule(NamedTuple):
    """The least role in the team, None where none is enough; and the scope that a token needs."""

    role: Role | None
    scope: Scope


RULES: Mapping[Action, Rule] = MappingProxyType(
    {
        Action.READ: Rule(Role.READER, Scope.READ),
        Action.SEE_TEAM: Rule(Role.READER, Scope.READ),
        Action.PUSH: Rule(Role.WRITER, Scope.PUSH),
        Action.ANNOTATE: Rule(Role.WRITER, Scope.PUSH),
        Action.SHARE: Rule(Role.MAINTAINER, Scope.ADMIN),
        Action.MOVE_ALIAS: Rule(Role.WRITER, Scope.PROMOTE),
        Action.MOVE_PROTECTED_ALIAS: Rule(Role.MAINTAINER, Scope.PROMOTE),
        Action.DELETE: Rule(Role.MAINTAINER, Scope.ADMIN),
        Action.PURGE: Rule(Role.ADMIN, Scope.ADMIN),
        Action.MANAGE_TEAM: Rule(Role.ADMIN, Scope.ADMIN),
        Action.READ_AUDIT: Rule(Role.ADMIN, Scope.ADMIN),
        Action.ADMINISTER: Rule(None, Scope.ADMIN),
    }
)
ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they may do.

    Attributes:
        name: for the record.
        is_administrator: whether they may do everything in the installation.
        roles: in the teams that they are a member of.
        scopes: what their token is for.
        targets: the teams (`vision`) and models (`vision/resnet50`) that their token is good for; empty for all.
        token: how the token begins, None without one.
        address: where the request came from.
        request_id: of the request.
    """

    name: str
    is_administrator: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict[str, Role])
    scopes: frozenset[Scope] = ALL_SCOPES
    targets: frozenset[str] = frozenset()
    token: str | None = None
    address: str | None = None
    request_id: str | None = None

    @property
    def actor(self) -> Actor:
        """Who did it, for the record."""
        return Actor(self.name, self.token, self.address, self.request_id)


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked about: a team, or a model of it. Both None mean the whole installation."""

    team: str | None = None
    model: str | None = None
    visibility: Visibility = "team"


def may(caller: Caller, action: Action, resource: Resource) -> bool:
    """Return whether the caller may do this."""
    rule = RULES[action]
    if rule.scope not in caller.scopes or not _is_target(caller, resource):
        return False
    if caller.is_administrator:
        return True
    role = caller.roles.get(resource.team or "")
    if role is not None and rule.role is not None and role.reaches(rule.role):
        return True
    return action is Action.READ and resource.model is not None and resource.visibility == "everyone"


def _is_target(caller: Caller, resource: Resource) -> bool:
    """Return whether the caller's token is good for a resource."""
    if not caller.targets:
        return True
    if resource.team is None:
        return False
    whole = resource.team in caller.targets
    return whole or (resource.model is not None and f"{resource.team}/{resource.model}" in caller.targets)
