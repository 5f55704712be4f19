"""Tokens: making, listing and ending them, and who the caller is by theirs."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.bodies import BoundedRoute
from api.deps import CallerDep, Cursor, Limit, StoresDep
from api.needs import needs
from registry.schema import Page
from registry.teams import NewToken, TokenCreate, TokenInfo, WhoAmI
from storage import tokens

router = APIRouter(tags=["tokens"], route_class=BoundedRoute)
Prefix = Annotated[str, Path(pattern=r"^wb_[a-z2-7]{16}$", description="how the token begins")]
Owner = Annotated[str | None, Query(max_length=96, description="whose; `*` for everybody's; else the caller's own")]


@router.get("/whoami", operation_id="who_am_i", **needs(None))
def who_am_i(stores: StoresDep, caller: CallerDep) -> WhoAmI:
    """Return who the service takes the caller for, and what they may do where."""
    return tokens.who_am_i(stores, caller)


@router.get("/tokens", operation_id="list_tokens", **needs(None))
def list_tokens(
    stores: StoresDep, caller: CallerDep, user: Owner = None, cursor: Cursor = None, limit: Limit = 100
) -> Page[TokenInfo]:
    """List tokens, the newest first, without their secrets."""
    return tokens.list_tokens(stores, caller, user, cursor, limit)


@router.post("/tokens", status_code=201, operation_id="create_token", **needs(None))
def create_token(stores: StoresDep, caller: CallerDep, response: Response, create: TokenCreate) -> NewToken:
    """Make a token that can do no more than the caller's; its secret is told this once."""
    response.headers["Cache-Control"] = "no-store"
    return tokens.create_token(stores, caller, create)


@router.delete("/tokens/{prefix}", operation_id="revoke_token", **needs(None))
def revoke_token(stores: StoresDep, caller: CallerDep, prefix: Prefix) -> TokenInfo:
    """End a token; it is refused from the next request on."""
    return tokens.revoke_token(stores, caller, prefix)
