"""Letting callers in, or not: what they may not see is not there, what they may see and not do is refused."""

from dataclasses import replace

from registry.errors import ModelNotFoundError, PermissionDeniedError, TeamNotFoundError
from registry.teams import Role, Scope
from storage.access import ALL_SCOPES, RULES, Action, Caller, Resource, may
from storage.metadata.records import Sight
from storage.stores import Stores

_OF_WHAT_IS_THERE = frozenset({Action.READ, Action.ANNOTATE, Action.MOVE_ALIAS, Action.MOVE_PROTECTED_ALIAS})


def admit(stores: Stores, caller: Caller, action: Action, team: str | None = None, model: str | None = None) -> None:
    """Return when the caller may do this to a model, to a team, or to the installation.

    Raises:
        ModelNotFoundError, TeamNotFoundError: they may not even see it; or it is not there, in the same words.
        PermissionDeniedError: they may see it, and may not do this.
    """
    resource = Resource(team, model)
    if may(caller, action, resource):
        # Whose token is for some models only is not told which others there are.
        if caller.targets and team is not None and model is not None and action in _OF_WHAT_IS_THERE:
            _require_there(stores, team, model)
        return
    if team is not None and model is not None:
        resource = Resource(team, model, stores.catalog.find_visibility(team, model) or "team")
        if may(caller, action, resource):
            return
    if team is None or _could_see(caller, resource):
        raise _denied(caller, action, team)
    if model is None:
        raise TeamNotFoundError(f"There is no team {team}, or you are no member of it.")
    raise _hidden(team, model)


def admit_to_push(stores: Stores, caller: Caller, team: str, model: str) -> None:
    """Return when the caller may push to a model; where it was deleted, when they may begin it anew.

    Raises:
        ModelNotFoundError, PermissionDeniedError: as for `admit`.
    """
    admit(stores, caller, Action.PUSH, team, model)
    if not may(caller, Action.DELETE, Resource(team, model)) and stores.catalog.is_deleted(team, model):
        raise PermissionDeniedError(
            f"{team}/{model} was deleted. Whoever may delete there can restore it or push the first version anew."
        )


def admit_to_alias(stores: Stores, caller: Caller, team: str, model: str, alias: str) -> None:
    """Return when the caller may move an alias of a model; some aliases are for maintainers only.

    Raises:
        ModelNotFoundError, PermissionDeniedError: as for `admit`.
    """
    rules = stores.catalog.find_team(team)
    protected = rules is not None and alias in rules.protected_aliases
    admit(stores, caller, Action.MOVE_PROTECTED_ALIAS if protected else Action.MOVE_ALIAS, team, model)


def reaches(caller: Caller, team: str, least: Role | None) -> bool:
    """Return whether the caller's role in a team is at least this; None is for nobody."""
    if least is None:
        return False
    role = Role.ADMIN if caller.is_administrator else caller.roles.get(team)
    return role is not None and role.reaches(least)


def is_member(caller: Caller, team: str) -> bool:
    """Return whether the caller has any role in a team; what is shown to everyone is less."""
    return caller.is_administrator or team in caller.roles


def sees_quarantine(caller: Caller, team: str) -> bool:
    """Return whether the caller is shown what is in quarantine in a team."""
    return may(caller, Action.MANAGE_TEAM, Resource(team))


def sight_of(caller: Caller) -> Sight:
    """Return which models the caller may read.

    Raises:
        PermissionDeniedError: their token is not made for reading.
    """
    if Scope.READ not in caller.scopes:
        raise _denied(caller, Action.READ, None)
    return Sight(caller.is_administrator, frozenset(caller.roles), caller.targets)


def sight_in(caller: Caller, team: str) -> Sight | None:
    """Return what the caller may read, for naming it in answers to something else; None where their token reads none.

    What is in quarantine is part of it where they see that in this team.
    """
    if Scope.READ not in caller.scopes:
        return None
    return replace(sight_of(caller), quarantine=sees_quarantine(caller, team))


def _denied(caller: Caller, action: Action, team: str | None) -> PermissionDeniedError:
    rule, words = RULES[action], action.value.replace("_", " ")
    if rule.scope not in caller.scopes:
        return PermissionDeniedError(
            f"The token {caller.token or ''} has no scope `{rule.scope}`, which is needed to {words}. Use one that "
            "has, or ask an administrator for one."
        )
    if team is None or rule.role is None:
        return PermissionDeniedError(f"Only administrators of this installation may {words} here.")
    return PermissionDeniedError(
        f"{caller.name} may not {words} in {team}: that takes the role `{rule.role}` there, and a token that is good "
        "for it. An admin of the team gives roles."
    )


def _require_there(stores: Stores, team: str, model: str) -> None:
    if stores.catalog.find_visibility(team, model) is None:
        raise _hidden(team, model, is_deleted=stores.catalog.is_deleted(team, model))


def _hidden(team: str, model: str, *, is_deleted: bool = False) -> ModelNotFoundError:
    told = {"deleted": True} if is_deleted else {}
    return ModelNotFoundError(f"There is no model {team}/{model}, or you may not see it.", **told)


def _could_see(caller: Caller, resource: Resource) -> bool:
    """Return whether the caller knows that it exists: with another token of theirs they could see it."""
    return may(replace(caller, scopes=ALL_SCOPES), Action.READ, resource)
