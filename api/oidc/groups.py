"""What the groups of a person at the identity provider give them here."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, cast

from registry.errors import ConfigurationError, InvalidNameError
from registry.names import check_team
from registry.teams import Role

ADMINISTRATOR = "administrator"
_VARIABLE = "WEIGHBRIDGE_OIDC_GROUPS"


class Given(NamedTuple):
    """What somebody's groups give them."""

    roles: Mapping[str, Role]
    is_administrator: bool
    is_member: bool


@dataclass(frozen=True, slots=True)
class GroupRules:
    """Which group gives which role in which team, or makes administrators."""

    roles: Mapping[str, tuple[str, Role]] = field(default_factory=dict[str, tuple[str, Role]])
    administrators: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Return the rules of a setting, none for None.

        Raises:
            ConfigurationError: it is no such JSON, or names what is no team or role.
        """
        roles: dict[str, tuple[str, Role]] = {}
        administrators: set[str] = set()
        for group, gives in _read(text or "{}").items():
            team, _, role = gives.partition(":")
            if gives == ADMINISTRATOR:
                administrators.add(group)
            elif role in set(Role):
                roles[group] = (_check_team(team), Role(role))
            else:
                raise ConfigurationError(
                    f"{_VARIABLE}: {group!r} gives {gives!r}. Write TEAM:ROLE with one of {', '.join(Role)}, or "
                    f"{ADMINISTRATOR!r}."
                )
        return cls(roles, frozenset(administrators))

    def apply(self, groups: Iterable[str]) -> Given:
        """Return what these groups give; of several roles in a team it is the highest."""
        found: dict[str, Role] = {}
        known = [group for group in groups if group in self.roles or group in self.administrators]
        for team, role in (self.roles[group] for group in known if group in self.roles):
            if team not in found or role.reaches(found[team]):
                found[team] = role
        return Given(found, not self.administrators.isdisjoint(known), bool(known))

    def __bool__(self) -> bool:
        return bool(self.roles or self.administrators)


def groups_in(claims: Mapping[str, Any], claim: str) -> list[str]:
    """Return the groups that a provider tells of; one alone may come without a list."""
    value = claims.get(claim)
    if isinstance(value, str):
        return [value]
    return [each for each in cast("list[Any]", value) if isinstance(each, str)] if isinstance(value, list) else []


def _read(text: str) -> dict[str, str]:
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{_VARIABLE} is no JSON: {error}.") from error
    if not isinstance(document, dict) or not all(isinstance(each, str) for each in cast("Any", document).values()):
        raise ConfigurationError(f'{_VARIABLE} is no JSON object of texts, such as {{"ml-vision": "vision:writer"}}.')
    return cast("dict[str, str]", document)


def _check_team(team: str) -> str:
    try:
        return check_team(team)
    except InvalidNameError as error:
        raise ConfigurationError(f"{_VARIABLE}: {error.detail}") from error
