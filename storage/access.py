"""Who may do what: the one function that decides. Every use case takes a `Caller` and asks it."""

from dataclasses import dataclass
from enum import StrEnum

from registry.errors import PermissionDeniedError


class Action(StrEnum):
    """What a use case wants to do."""

    READ = "read"
    PUSH = "push"
    ANNOTATE = "annotate"
    MOVE_ALIAS = "move_alias"
    DELETE = "delete"
    PURGE = "purge"
    ADMINISTER = "administer"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a name for the record, and whether the installation's rule let them in."""

    name: str
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked about: a team, or a model of it. Both None mean the whole installation."""

    team: str | None = None
    model: str | None = None


def may(caller: Caller, action: Action, resource: Resource) -> bool:
    """Return whether the caller may do this. One rule for now: whoever was let in may do everything."""
    del action, resource
    return caller.trusted


def require(caller: Caller, action: Action, resource: Resource) -> None:
    """Return when the caller may do this.

    Raises:
        PermissionDeniedError: they may not.
    """
    if not may(caller, action, resource):
        raise PermissionDeniedError(f"{caller.name} may not {action.value.replace('_', ' ')} here.")
