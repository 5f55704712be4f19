"""The audit: who did what, where from, when."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from api.deps import CallerDep, Cursor, Limit, StoresDep, in_utc
from api.needs import needs
from registry.schema import Page
from registry.teams import AuditEntry
from storage import audit
from storage.access import Action
from storage.metadata.records import AuditQuery

router = APIRouter(tags=["audit"])
Text = Annotated[str | None, Query(max_length=200)]
Moment = Annotated[datetime | None, Query(description="with a time zone, as in `2026-10-01T00:00:00Z`")]
_LINES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}


async def get_query(
    team: Text = None,
    actor: Text = None,
    action: Text = None,
    model: Text = None,
    since: Moment = None,
    until: Moment = None,
) -> AuditQuery:
    """Return which entries are asked for; times without a zone are in UTC."""
    return AuditQuery(team, actor, action, model, in_utc(since), in_utc(until))


QueryDep: TypeAlias = Annotated[AuditQuery, Depends(get_query)]


@router.get("/audit", operation_id="list_audit", **needs(Action.READ_AUDIT))
def list_audit(
    stores: StoresDep, caller: CallerDep, query: QueryDep, cursor: Cursor = None, limit: Limit = 100
) -> Page[AuditEntry]:
    """List what happened in a team, the newest first; without a team all that happened, for administrators."""
    return audit.list_audit(stores, caller, query, cursor, limit)


@router.get("/audit/export", operation_id="export_audit", responses=_LINES, **needs(Action.READ_AUDIT))
def export_audit(stores: StoresDep, caller: CallerDep, query: QueryDep) -> StreamingResponse:
    """Return all of it as lines of JSON."""
    return StreamingResponse(_lines(audit.iter_audit(stores, caller, query)), media_type="application/x-ndjson")


def _lines(entries: Iterator[AuditEntry]) -> Iterator[str]:
    for entry in entries:
        yield json.dumps(entry.model_dump(mode="json"), separators=(",", ":")) + "\n"
