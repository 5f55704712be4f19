"""Aliases: where names point, moving them without losing anybody's move, and the record of all moves."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.bodies import BoundedRoute
from api.deps import CallerDep, Cursor, ExpectedDep, Limit, StoresDep, in_utc
from api.needs import needs
from api.responses import problems
from registry.schema import AliasInfo, AliasMove, AliasUpdate, Page
from storage import aliases
from storage.access import Action

router = APIRouter(tags=["aliases"], route_class=BoundedRoute)
_ALIASES = "/models/{team}/{model}/aliases"
_ALIAS = _ALIASES + "/{alias}"


@router.get(_ALIASES, operation_id="list_aliases", **needs(Action.READ))
def list_aliases(stores: StoresDep, caller: CallerDep, team: str, model: str) -> Page[AliasInfo]:
    """List a model's aliases by name."""
    return Page[AliasInfo](items=aliases.list_aliases(stores, caller, team, model))


@router.get(_ALIAS, operation_id="get_alias", **needs(Action.READ))
def get_alias(
    stores: StoresDep,
    caller: CallerDep,
    response: Response,
    team: str,
    model: str,
    alias: str,
    at: Annotated[datetime | None, Query(description="where it pointed then, as in `2026-10-01T00:00:00Z`")] = None,
) -> AliasInfo:
    """Return where an alias points, or pointed; the ETag is its revision."""
    found = aliases.get_alias(stores, caller, team, model, alias, in_utc(at))
    response.headers["ETag"] = f'"{found.revision}"'
    return found


@router.put(_ALIAS, operation_id="move_alias", responses=problems(412, 428), **needs(Action.MOVE_ALIAS))
def move_alias(
    stores: StoresDep,
    caller: CallerDep,
    response: Response,
    expected: ExpectedDep,
    team: str,
    model: str,
    alias: str,
    update: AliasUpdate,
) -> AliasInfo:
    """Point an alias at a version; needs `If-Match: "REVISION"`, or `If-None-Match: *` to make it."""
    moved = aliases.move_alias(
        stores, caller, team, model, alias, update.version, expected=expected, reason=update.reason
    )
    response.headers["ETag"] = f'"{moved.revision}"'
    return moved


@router.delete(
    _ALIAS, status_code=204, operation_id="remove_alias", responses=problems(412, 428), **needs(Action.MOVE_ALIAS)
)
def remove_alias(
    stores: StoresDep,
    caller: CallerDep,
    expected: ExpectedDep,
    team: str,
    model: str,
    alias: str,
    reason: Annotated[str, Query(max_length=2_000)] = "",
) -> None:
    """Remove an alias; needs `If-Match: "REVISION"`."""
    aliases.remove_alias(stores, caller, team, model, alias, expected=expected, reason=reason)


@router.get(_ALIAS + "/history", operation_id="list_alias_moves", **needs(Action.READ))
def list_alias_moves(
    stores: StoresDep,
    caller: CallerDep,
    team: str,
    model: str,
    alias: str,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[AliasMove]:
    """List the moves of an alias, the newest first."""
    return aliases.alias_history(stores, caller, team, model, alias, cursor, limit)
