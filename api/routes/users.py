"""Users: the people and jobs that may have tokens, and who they are at other services."""

from typing import Annotated

from fastapi import APIRouter, Path

from api.bodies import BoundedRoute
from api.deps import CallerDep, Cursor, Limit, StoresDep
from api.needs import needs
from api.responses import problems
from registry.identities import IdentityCreate, IdentityInfo
from registry.schema import Page
from registry.teams import UserCreate, UserInfo, UserUpdate
from storage import identities, teams
from storage.access import Action

router = APIRouter(tags=["users"], route_class=BoundedRoute)
_USER = "/users/{user}"
_IDENTITIES = "/users/{user}/identities"


@router.get("/users", operation_id="list_users", **needs(Action.ADMINISTER))
def list_users(stores: StoresDep, caller: CallerDep, cursor: Cursor = None, limit: Limit = 100) -> Page[UserInfo]:
    """List all users by name."""
    return teams.list_users(stores, caller, cursor, limit)


@router.put(_USER, status_code=201, operation_id="create_user", responses=problems(409), **needs(Action.ADMINISTER))
def create_user(stores: StoresDep, caller: CallerDep, user: str, create: UserCreate | None = None) -> UserInfo:
    """Make a user, who can do nothing before they have a role or are an administrator."""
    return teams.create_user(stores, caller, user, administrator=(create or UserCreate()).administrator)


@router.get(_USER, operation_id="get_user", **needs(Action.ADMINISTER))
def get_user(stores: StoresDep, caller: CallerDep, user: str) -> UserInfo:
    """Return a user."""
    return teams.get_user(stores, caller, user)


@router.patch(_USER, operation_id="update_user", responses=problems(409), **needs(Action.ADMINISTER))
def update_user(stores: StoresDep, caller: CallerDep, user: str, update: UserUpdate) -> UserInfo:
    """Make a user an administrator or not, shut them out or let them in again."""
    return teams.update_user(stores, caller, user, update)


@router.get(_IDENTITIES, operation_id="list_identities", **needs(Action.ADMINISTER))
def list_identities(stores: StoresDep, caller: CallerDep, user: str) -> Page[IdentityInfo]:
    """List who a user is at other services, at most 100."""
    return Page[IdentityInfo](items=identities.list_trusted(stores, caller, user))


@router.post(
    _IDENTITIES, status_code=201, operation_id="add_identity", responses=problems(409), **needs(Action.ADMINISTER)
)
def add_identity(stores: StoresDep, caller: CallerDep, user: str, create: IdentityCreate) -> IdentityInfo:
    """Let an issuer's subject in as a user: a job that sends a JWT, or a person who signs in."""
    return identities.trust(stores, caller, user, create)


@router.delete(f"{_IDENTITIES}/{{identity}}", operation_id="remove_identity", **needs(Action.ADMINISTER))
def remove_identity(
    stores: StoresDep, caller: CallerDep, user: str, identity: Annotated[int, Path(ge=1, le=(1 << 63) - 1)]
) -> IdentityInfo:
    """Let nobody in any more by an identity, and end the tokens that were made on its word."""
    return identities.distrust(stores, caller, user, identity)
