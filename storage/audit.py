"""The audit: what happened in a team, or in the whole installation."""

from collections.abc import Iterator

from registry.schema import Page
from registry.teams import AuditEntry
from storage.access import Action, Caller
from storage.admission import admit
from storage.metadata.records import AuditQuery
from storage.stores import Stores
from storage.tokens import recheck

_BATCH = 1000


def list_audit(
    stores: Stores, caller: Caller, query: AuditQuery, cursor: str | None = None, limit: int = 100
) -> Page[AuditEntry]:
    """Return a page of what happened in a team, the newest first; without one, of all that happened.

    Raises:
        TeamNotFoundError, PermissionDeniedError: the caller may not see the team, or its audit.
        InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
    """
    admit(stores, caller, Action.ADMINISTER if query.team is None else Action.READ_AUDIT, query.team)
    return stores.catalog.list_audit(query, cursor, limit)


def iter_audit(stores: Stores, caller: Caller, query: AuditQuery) -> Iterator[AuditEntry]:
    """Yield all of it, the newest first, in short transactions; the first is asked for before the first entry.

    Raises:
        TeamNotFoundError, PermissionDeniedError: the caller may not see the team, or its audit.
    """
    page = list_audit(stores, caller, query, None, _BATCH)

    def entries() -> Iterator[AuditEntry]:
        last = page
        yield from last.items
        while last.cursor is not None:
            last = list_audit(stores, recheck(stores, caller), query, last.cursor, _BATCH)
            yield from last.items

    return entries()
