"""Models: make, list, search, change, delete, restore."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.bodies import BoundedRoute
from api.deps import CallerDep, Cursor, Limit, StoresDep, TagsDep
from api.needs import needs
from api.responses import problems
from registry.schema import ModelCreate, ModelInfo, ModelUpdate, Page
from storage import models
from storage.access import Action
from storage.metadata.records import ModelQuery

router = APIRouter(tags=["models"], route_class=BoundedRoute)
Text = Annotated[str | None, Query(max_length=500)]


@router.get("/models", operation_id="list_models", **needs(Action.READ))
def list_models(
    stores: StoresDep,
    caller: CallerDep,
    tags: TagsDep,
    search: Text = None,
    team: Text = None,
    kind: Text = None,
    sort: Annotated[str, Query(max_length=100)] = "name",
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[ModelInfo]:
    """List the models whose name, description and tags hold all words of `search`."""
    query = ModelQuery(search=search, team=team, tags=tags, kind=kind, sort=sort)
    return models.list_models(stores, caller, query, cursor, limit)


@router.put(
    "/models/{team}/{model}",
    status_code=201,
    operation_id="create_model",
    responses=problems(409),
    **needs(Action.PUSH),
)
def create_model(
    stores: StoresDep, caller: CallerDep, response: Response, team: str, model: str, create: ModelCreate | None = None
) -> ModelInfo:
    """Make a model before anything is pushed to it."""
    created = models.create_model(stores, caller, team, model, create or ModelCreate())
    response.headers["Location"] = f"/api/v1/models/{team}/{model}"
    return created


@router.get("/models/{team}/{model}", operation_id="get_model", **needs(Action.READ))
def get_model(stores: StoresDep, caller: CallerDep, team: str, model: str) -> ModelInfo:
    """Return a model."""
    return models.get_model(stores, caller, team, model)


@router.patch("/models/{team}/{model}", operation_id="update_model", **needs(Action.ANNOTATE))
def update_model(stores: StoresDep, caller: CallerDep, team: str, model: str, update: ModelUpdate) -> ModelInfo:
    """Change a model's description and tags; what is left out stays."""
    return models.update_model(stores, caller, team, model, update)


@router.delete("/models/{team}/{model}", operation_id="delete_model", **needs(Action.DELETE))
def delete_model(stores: StoresDep, caller: CallerDep, team: str, model: str) -> ModelInfo:
    """Hide a model with all its versions; `restore` brings it back."""
    return models.delete_model(stores, caller, team, model)


@router.post(
    "/models/{team}/{model}/restore", operation_id="restore_model", responses=problems(409), **needs(Action.DELETE)
)
def restore_model(stores: StoresDep, caller: CallerDep, team: str, model: str) -> ModelInfo:
    """Show a deleted model again."""
    return models.restore_model(stores, caller, team, model)
