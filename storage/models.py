"""Models: make, look up, list, change, delete, restore."""

from registry.names import check_name, check_team
from registry.schema import ModelCreate, ModelInfo, ModelUpdate, Page
from storage.access import Action, Caller
from storage.admission import admit, admit_to_push, sight_of
from storage.metadata.records import ModelQuery
from storage.stores import Stores


def create_model(stores: Stores, caller: Caller, team: str, name: str, create: ModelCreate) -> ModelInfo:
    """Make a model before anything is pushed to it; a deleted one begins anew.

    Raises:
        InvalidNameError: some client could not address it.
        ModelExistsError: a live one is there.
    """
    check_team(team)
    check_name(name, "model name")
    admit_to_push(stores, caller, team, name)
    return stores.catalog.create_model(team, name, create, caller.actor)


def get_model(stores: Stores, caller: Caller, team: str, name: str) -> ModelInfo:
    """Return a live model.

    Raises:
        ModelNotFoundError: there is none; the detail says which name was perhaps meant.
    """
    admit(stores, caller, Action.READ, team, name)
    return stores.catalog.get_model(team, name)


def list_models(stores: Stores, caller: Caller, query: ModelQuery, cursor: str | None, limit: int) -> Page[ModelInfo]:
    """Return a page of the models that fit a query.

    Raises:
        InvalidRequestError, InvalidCursorError: no such sort, limit or cursor.
    """
    return stores.catalog.list_models(sight_of(caller), query, cursor, limit)


def update_model(stores: Stores, caller: Caller, team: str, name: str, update: ModelUpdate) -> ModelInfo:
    """Change the description and tags of a model, and who may read it, which is for maintainers.

    Raises:
        ModelNotFoundError: there is none.
        InvalidMetadataError: it would have too many tags.
    """
    if update.visibility is not None:
        admit(stores, caller, Action.SHARE, team, name)
    if update.visibility is None or update.description is not None or update.tags:
        admit(stores, caller, Action.ANNOTATE, team, name)
    return stores.catalog.update_model(team, name, update, caller.actor)


def delete_model(stores: Stores, caller: Caller, team: str, name: str) -> ModelInfo:
    """Hide a model with all its versions; `restore_model` shows it again.

    Raises:
        ModelNotFoundError: there is none.
    """
    admit(stores, caller, Action.DELETE, team, name)
    return stores.catalog.delete_model(team, name, caller.actor)


def restore_model(stores: Stores, caller: Caller, team: str, name: str) -> ModelInfo:
    """Show a deleted model again.

    Raises:
        ModelNotFoundError: there never was one.
        NotDeletedError: it is live.
    """
    admit(stores, caller, Action.DELETE, team, name)
    return stores.catalog.restore_model(team, name, caller.actor)
