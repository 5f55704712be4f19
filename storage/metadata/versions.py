"""Versions in the catalog: get and list them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.errors import InvalidRequestError
from registry.schema import Page, VersionInfo
from storage.metadata.lookup import get_model, get_version
from storage.metadata.pages import Order, check_limit, decode_cursor, encode_cursor, read_page, seek
from storage.metadata.resolving import Resolved, Told, moment_of, question_of
from storage.metadata.session import Database, Transactional, ask_in, reads
from storage.metadata.shapes import version_info, version_infos
from storage.metadata.tables import (
    INDEXED_CHARACTERS,
    MetricRow,
    ModelRow,
    TagRow,
    VersionRow,
)

_METRIC_PREFIX = "metrics."
_SORTS: dict[str, tuple[tuple[InstrumentedAttribute[Any], ...], tuple[type[Any], ...]]] = {
    "number": ((VersionRow.number,), (int,)),
    "created": ((VersionRow.created_at, VersionRow.number), (datetime, int)),
}


class Versions(Transactional):
    """The part of the catalog that knows versions."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._resolved = Resolved()

    @reads
    def get_version(
        self,
        session: Session,
        team: str,
        model: str,
        selector: str,
        *,
        include_deleted: bool = False,
        include_quarantined: bool = False,
    ) -> VersionInfo:
        """Return the version that `3`, `v3`, `latest`, an alias or `sha256:…` means.

        Raises:
            ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: nothing is meant; the detail says what exists.
        """
        asked = question_of(team, model, selector, is_admitted=True)
        moment = asked and moment_of(ask_in(session, *asked))
        told = moment and self._resolved.find(moment)
        if told is not None:
            return told.info
        row = get_model(session, team, model)
        included = {"include_deleted": include_deleted, "include_quarantined": include_quarantined}
        info = version_info(session, row, get_version(session, row, selector, **included))
        if moment is not None:
            self._resolved.keep(moment, info)
        return info

    def find_told(
        self, team: str, model: str, selector: str, *, is_admitted: bool, at_once: bool = False
    ) -> Told | None:
        """Return what was told of a live version, while that still holds; None for all that `get_version` finds out.

        Args:
            team: of the model.
            model: its name.
            selector: a number, an alias or `latest`.
            is_admitted: whether the model is shown whoever may read it; else it must be one that everyone may.
            at_once: for whoever must not wait: None also where that would take waiting.
        """
        asked = question_of(team, model, selector, is_admitted=is_admitted)
        if asked is None:
            return None
        rows = self.database.ask_at_once(*asked) if at_once else self.database.ask(*asked)
        moment = moment_of(rows or ())
        return moment and self._resolved.find(moment)

    @reads
    def list_versions(
        self,
        session: Session,
        team: str,
        model: str,
        *,
        sort: str = "-number",
        cursor: str | None = None,
        limit: int = 100,
        include_deleted: bool = False,
        include_quarantined: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> Page[VersionInfo]:
        """Return a page of versions, sorted by `number`, `created` or `metrics.NAME`, descending with a `-`.

        Versions without the metric come last, the newest first.

        Raises:
            ModelNotFoundError: there is no such live model.
            InvalidRequestError: no such sort, or a bad limit.
            InvalidCursorError: the cursor is not of this list.
        """
        row = get_model(session, team, model)
        query = _filter(row, tags or {}, include_deleted=include_deleted)
        if not include_quarantined:
            query = query.where(VersionRow.quarantined_at.is_(None))
        name = sort.removeprefix("-")
        if name.startswith(_METRIC_PREFIX):
            versions, following = _by_metric(session, row, query, sort, cursor, limit)
        else:
            rows, following = read_page(session, query, _get_order(sort), cursor, limit)
            versions = [version for (version,) in rows]
        return Page[VersionInfo](items=version_infos(session, row, versions), cursor=following)


def _filter(model: ModelRow, tags: Mapping[str, str], *, include_deleted: bool) -> Select[VersionRow]:
    query = select(VersionRow).where(VersionRow.model_id == model.id)
    if not include_deleted:
        query = query.where(VersionRow.deleted_at.is_(None))
    for key, value in tags.items():
        query = query.where(
            exists().where(
                TagRow.model_id == model.id,
                TagRow.key == key,
                TagRow.value_start == value[:INDEXED_CHARACTERS],
                TagRow.value == value,
                TagRow.version_id == VersionRow.id,
            )
        )
    return query


def _get_order(sort: str) -> Order:
    found = _SORTS.get(sort.removeprefix("-"))
    if found is None:
        raise InvalidRequestError(
            f"Versions cannot be sorted by {sort!r}. Use number, created or metrics.NAME, or one with a `-`."
        )
    return Order(sort, *found)


def _by_metric(  # noqa: PLR0917 - all that a page is
    session: Session, model: ModelRow, query: Select[VersionRow], sort: str, cursor: str | None, limit: int
) -> tuple[list[VersionRow], str | None]:
    """Walk the metric's index, and once it ends the versions without the metric: never a sort of all versions."""
    check_limit(limit)
    name = sort.removeprefix("-").removeprefix(_METRIC_PREFIX)
    after = None if cursor is None else decode_cursor(cursor, sort, (float | int | None, int))
    found: list[tuple[VersionRow, list[Any]]] = []
    if after is None or after[0] is not None:
        measured = query.join(MetricRow, MetricRow.version_id == VersionRow.id).add_columns(MetricRow.value)
        measured = measured.where(MetricRow.model_id == model.id, MetricRow.name == name)
        columns = (MetricRow.value, MetricRow.number)
        chosen = seek(measured, columns, descending=sort.startswith("-"), after=after, limit=limit)
        found = [(version, [value, version.number]) for version, value in session.execute(chosen)]
        after = None
    if len(found) <= limit:
        has_metric = exists().where(MetricRow.version_id == VersionRow.id, MetricRow.name == name)
        rest = seek(
            query.where(~has_metric),
            (VersionRow.number,),
            descending=True,
            after=after[1:] if after else None,
            limit=limit - len(found),
        )
        found += [(version, [None, version.number]) for version in session.scalars(rest)]
    following = encode_cursor(sort, found[limit - 1][1]) if len(found) > limit else None
    return [version for version, _ in found[:limit]], following
