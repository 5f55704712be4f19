"""Teams: their rules, and who has which role in them."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.bodies import BoundedRoute
from api.deps import CallerDep, Cursor, Limit, StoresDep
from api.needs import needs
from api.responses import problems
from registry.schema import Page
from registry.teams import (
    MemberInfo,
    MemberUpdate,
    OverrideInfo,
    OverrideUpdate,
    QuotaUpdate,
    TeamInfo,
    TeamUpdate,
)
from registry.usage import ModelStorage, TeamStorage
from storage import teams, usage
from storage.access import Action

router = APIRouter(tags=["teams"], route_class=BoundedRoute)
_TEAM = "/teams/{team}"
_MEMBER = _TEAM + "/members/{user}"
_OVERRIDE = _TEAM + "/overrides/{sha256}"
Digest = Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$")]


@router.get("/teams", operation_id="list_teams", **needs(Action.SEE_TEAM))
def list_teams(stores: StoresDep, caller: CallerDep, cursor: Cursor = None, limit: Limit = 100) -> Page[TeamInfo]:
    """List the caller's teams; for administrators all of them."""
    return teams.list_teams(stores, caller, cursor, limit)


@router.put(_TEAM, status_code=201, operation_id="create_team", responses=problems(409), **needs(Action.ADMINISTER))
def create_team(stores: StoresDep, caller: CallerDep, team: str) -> TeamInfo:
    """Make a team before its first model."""
    return teams.create_team(stores, caller, team)


@router.get(_TEAM, operation_id="get_team", **needs(Action.SEE_TEAM))
def get_team(stores: StoresDep, caller: CallerDep, team: str) -> TeamInfo:
    """Return a team's rules, and the caller's role in it."""
    return teams.get_team(stores, caller, team)


@router.get(_TEAM + "/storage", operation_id="measure_team", **needs(Action.SEE_TEAM))
def measure_team(stores: StoresDep, caller: CallerDep, team: str) -> TeamStorage:
    """Return what a team's versions would take as files, what is stored of them, and what sharing saves."""
    return usage.measure_team(stores, caller, team)


@router.get(_TEAM + "/storage/models", operation_id="measure_models", **needs(Action.SEE_TEAM))
def measure_models(
    stores: StoresDep, caller: CallerDep, team: str, cursor: Cursor = None, limit: Limit = 100
) -> Page[ModelStorage]:
    """Return the same of each model, by name; deleted ones until they are purged."""
    return usage.measure_models(stores, caller, team, cursor, limit)


@router.patch(_TEAM, operation_id="update_team", **needs(Action.MANAGE_TEAM))
def update_team(stores: StoresDep, caller: CallerDep, team: str, update: TeamUpdate) -> TeamInfo:
    """Change a team's rules; what is left out stays."""
    return teams.update_team(stores, caller, team, update)


@router.patch(_TEAM + "/quota", operation_id="update_quota", **needs(Action.ADMINISTER))
def update_quota(stores: StoresDep, caller: CallerDep, team: str, update: QuotaUpdate) -> TeamInfo:
    """Change how much a team may keep; what is left out stays, null is for no limit."""
    return teams.update_quota(stores, caller, team, update)


@router.get(_TEAM + "/members", operation_id="list_members", **needs(Action.SEE_TEAM))
def list_members(
    stores: StoresDep, caller: CallerDep, team: str, cursor: Cursor = None, limit: Limit = 100
) -> Page[MemberInfo]:
    """List a team's members by name."""
    return teams.list_members(stores, caller, team, cursor, limit)


@router.put(_MEMBER, operation_id="set_member", **needs(Action.MANAGE_TEAM))
def set_member(stores: StoresDep, caller: CallerDep, team: str, user: str, update: MemberUpdate) -> MemberInfo:
    """Give a user a role in a team, whatever they had there before."""
    return teams.set_member(stores, caller, team, user, update.role)


@router.delete(_MEMBER, status_code=204, operation_id="remove_member", **needs(Action.MANAGE_TEAM))
def remove_member(stores: StoresDep, caller: CallerDep, team: str, user: str) -> None:
    """Take a user's role in a team away."""
    teams.remove_member(stores, caller, team, user)


@router.get(_TEAM + "/overrides", operation_id="list_overrides", **needs(Action.MANAGE_TEAM))
def list_overrides(
    stores: StoresDep, caller: CallerDep, team: str, cursor: Cursor = None, limit: Limit = 100
) -> Page[OverrideInfo]:
    """List the bytes in quarantine that admins of a team may download, the newest first."""
    return teams.list_overrides(stores, caller, team, cursor, limit)


@router.put(_OVERRIDE, operation_id="set_override", **needs(Action.MANAGE_TEAM))
def set_override(
    stores: StoresDep, caller: CallerDep, team: str, sha256: Digest, update: OverrideUpdate
) -> OverrideInfo:
    """Let admins of a team download bytes in quarantine, for a reason that is recorded."""
    return teams.set_override(stores, caller, team, sha256, update.reason)


@router.delete(_OVERRIDE, status_code=204, operation_id="remove_override", **needs(Action.MANAGE_TEAM))
def remove_override(stores: StoresDep, caller: CallerDep, team: str, sha256: Digest) -> None:
    """Take an override back."""
    teams.remove_override(stores, caller, team, sha256)
