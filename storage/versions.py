"""Versions after their publication: list, annotate, delete, restore, purge."""

from collections.abc import Mapping

from registry.schema import AnnotationsUpdate, Page, VersionInfo
from storage.access import Action, Caller
from storage.admission import admit, is_member, sees_quarantine, sight_in
from storage.metadata.records import Purged
from storage.stores import Stores


def list_versions(
    stores: Stores,
    caller: Caller,
    team: str,
    model: str,
    *,
    sort: str,
    cursor: str | None,
    limit: int,
    include_deleted: bool,
    tags: Mapping[str, str],
) -> Page[VersionInfo]:
    """Return a page of versions.

    Raises:
        ModelNotFoundError: there is no such model.
        InvalidRequestError, InvalidCursorError: no such sort, limit or cursor.
    """
    admit(stores, caller, Action.READ, team, model)
    return stores.catalog.list_versions(
        team,
        model,
        sort=sort,
        cursor=cursor,
        limit=limit,
        include_deleted=include_deleted and is_member(caller, team),
        tags=tags,
        include_quarantined=sees_quarantine(caller, team),
    )


def annotate(  # noqa: PLR0917 - a version is named by three words
    stores: Stores,
    caller: Caller,
    team: str,
    model: str,
    selector: str,
    update: AnnotationsUpdate,
    expected_revision: int | None,
) -> VersionInfo:
    """Change the annotations of a version if they are still what the caller expects (None: whatever they are).

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: there is no such live version.
        PreconditionFailedError: somebody changed them since.
        InvalidMetadataError: there would be too many.
    """
    admit(stores, caller, Action.ANNOTATE, team, model)
    number = _number(stores, caller, team, model, selector)
    return stores.catalog.annotate(team, model, number, update, expected_revision, caller.actor)


def delete_version(
    stores: Stores, caller: Caller, team: str, model: str, selector: str, *, is_forced: bool = False
) -> VersionInfo:
    """Hide a version and keep its bytes until the installation's grace period ends.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: there is no such live version.
        VersionInUseError: an alias points at it; or versions are based on it and it is not forced.
    """
    admit(stores, caller, Action.DELETE, team, model)
    number = _number(stores, caller, team, model, selector)
    return stores.catalog.delete_version(
        team, model, number, caller.actor, is_forced=is_forced, sight=sight_in(caller, team)
    )


def restore_version(stores: Stores, caller: Caller, team: str, model: str, number: int) -> VersionInfo:
    """Show a deleted version again.

    Raises:
        ModelNotFoundError, VersionNotFoundError: there never was one.
        NotDeletedError: it is live, or purged.
    """
    admit(stores, caller, Action.DELETE, team, model)
    shown = sees_quarantine(caller, team)
    return stores.catalog.restore_version(team, model, number, caller.actor, include_quarantined=shown)


def purge_version(  # noqa: PLR0917 - a version is named by three words
    stores: Stores, caller: Caller, team: str, model: str, number: int, reason: str, *, is_live: bool = False
) -> Purged:
    """Remove the content of a deleted version for good; the collector deletes the bytes that nothing else holds.

    With `is_live` also of a live one, whose aliases go: for weights that should never have been here.

    Raises:
        ModelNotFoundError, VersionNotFoundError: there never was one.
        NotDeletedError: it is live and `is_live` is not given, or it was purged already.
    """
    admit(stores, caller, Action.PURGE, team, model)
    return stores.catalog.purge_version(
        team, model, number, caller.actor, reason, is_live=is_live, sight=sight_in(caller, team)
    )


def _number(stores: Stores, caller: Caller, team: str, model: str, selector: str) -> int:
    shown = sees_quarantine(caller, team)
    return stores.catalog.get_version(team, model, selector, include_quarantined=shown).number
