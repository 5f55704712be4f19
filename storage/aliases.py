"""Aliases: names that move between versions, every move recorded, no move lost."""

from datetime import datetime

from registry.names import check_alias
from registry.schema import AliasInfo, AliasMove, Page
from storage.access import Action, Caller
from storage.admission import admit, admit_to_alias
from storage.metadata.aliases import Expected
from storage.stores import Stores


def list_aliases(stores: Stores, caller: Caller, team: str, model: str) -> list[AliasInfo]:
    """Return the aliases of a model, by name.

    Raises:
        ModelNotFoundError: there is no such model.
    """
    admit(stores, caller, Action.READ, team, model)
    return stores.catalog.list_aliases(team, model)


def get_alias(  # noqa: PLR0917 - an alias is named by three words
    stores: Stores, caller: Caller, team: str, model: str, alias: str, at: datetime | None = None
) -> AliasInfo:
    """Return where an alias points, or where it pointed at a moment.

    Raises:
        ModelNotFoundError, AliasNotFoundError: there is no such model or alias, or was none.
    """
    admit(stores, caller, Action.READ, team, model)
    if at is not None:
        return stores.catalog.get_alias_at(team, model, alias, at)
    return stores.catalog.get_alias(team, model, alias)


def move_alias(  # noqa: PLR0917 - an alias is named by three words
    stores: Stores, caller: Caller, team: str, model: str, alias: str, version: int, *, expected: Expected, reason: str
) -> AliasInfo:
    """Point an alias at a version if it is still what the caller expects: a revision, or not there.

    Raises:
        InvalidNameError: no alias may be called that.
        ModelNotFoundError, VersionNotFoundError: there is no such live model or version.
        PreconditionFailedError: somebody moved it since; the detail says who and when.
    """
    check_alias(alias)
    admit_to_alias(stores, caller, team, model, alias)
    return stores.catalog.move_alias(team, model, alias, version, expected=expected, by=caller.actor, reason=reason)


def remove_alias(
    stores: Stores, caller: Caller, team: str, model: str, alias: str, *, expected: Expected, reason: str
) -> None:
    """Remove an alias if it is still what the caller expects.

    Raises:
        ModelNotFoundError, AliasNotFoundError: there is no such model or alias.
        PreconditionFailedError: somebody moved it since.
    """
    admit_to_alias(stores, caller, team, model, alias)
    stores.catalog.remove_alias(team, model, alias, expected=expected, by=caller.actor, reason=reason)


def alias_history(  # noqa: PLR0917 - an alias is named by three words
    stores: Stores, caller: Caller, team: str, model: str, alias: str, cursor: str | None, limit: int
) -> Page[AliasMove]:
    """Return a page of the moves of an alias, the newest first.

    Raises:
        ModelNotFoundError, AliasNotFoundError: there is no such model, or it never had such an alias.
        InvalidCursorError: the cursor is not of this list.
    """
    admit(stores, caller, Action.READ, team, model)
    return stores.catalog.alias_history(team, model, alias, cursor, limit)
