"""Versions in the catalog: get, list, delete, restore, purge."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, exists, func, select
from sqlalchemy.orm import Session

from registry.errors import InvalidRequestError, NotDeletedError, VersionInUseError
from registry.schema import Page, VersionInfo
from storage.metadata.aliases import point_alias
from storage.metadata.architectures import forget_uses
from storage.metadata.audit import record
from storage.metadata.garbage import DOOM_DELAY, doom_objects
from storage.metadata.lookup import find_latest, get_model, get_version, get_version_number, lock_model
from storage.metadata.pages import check_limit, decode_cursor, encode_cursor, seek
from storage.metadata.records import Actor, Purged
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.shapes import version_info, version_infos
from storage.metadata.tables import (
    INDEXED_CHARACTERS,
    AliasRow,
    ArtifactRow,
    ExtentRow,
    ManifestRow,
    MetricRow,
    ModelRow,
    ObjectRow,
    TagRow,
    VersionRow,
)

_METRIC_PREFIX = "metrics."


class Versions(Transactional):
    """The part of the catalog that knows versions."""

    @reads
    def get_version(
        self, session: Session, team: str, model: str, selector: str, *, include_deleted: bool = False
    ) -> VersionInfo:
        """Return the version that `3`, `v3`, `latest`, an alias or `sha256:…` means.

        Raises:
            ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: nothing is meant; the detail says what exists.
        """
        row = get_model(session, team, model)
        return version_info(session, row, get_version(session, row, selector, include_deleted=include_deleted))

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
        tags: Mapping[str, str] | None = None,
    ) -> Page[VersionInfo]:
        """Return a page of versions, sorted by `number`, `created` or `metrics.NAME`, descending with a `-`.

        Versions without the metric come last, the newest first.

        Raises:
            ModelNotFoundError: there is no such live model.
            InvalidRequestError: no such sort, or a bad limit.
            InvalidCursorError: the cursor is not of this list.
        """
        check_limit(limit)
        row = get_model(session, team, model)
        query = _filter(row, tags or {}, include_deleted=include_deleted)
        name = sort.removeprefix("-")
        if name.startswith(_METRIC_PREFIX):
            found = _by_metric(session, row, query, sort, cursor, limit)
        else:
            found = _by_column(session, query, sort, cursor, limit)
        versions = [version for version, _ in found[:limit]]
        following = encode_cursor(sort, found[limit - 1][1]) if len(found) > limit else None
        return Page[VersionInfo](items=version_infos(session, row, versions), cursor=following)

    @writes
    def delete_version(self, session: Session, team: str, model: str, number: int, by: Actor) -> VersionInfo:
        """Hide a version; `restore_version` shows it again and its number is never given to another.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is no such live version.
            VersionInUseError: an alias points at it.
        """
        row = lock_model(session, team, model)
        version = get_version_number(session, row, number)
        aliases = _aliases_of(session, row, number)
        if aliases:
            names = ", ".join(f"`{alias}`" for alias in aliases)
            raise VersionInUseError(
                f"{team}/{model}:{number} is what {names} points at. Move or remove the alias first.",
                aliases=aliases,
            )
        version.deleted_at = row.updated_at = utc_now()
        version.deleted_by = by.name
        _recount(session, row, -1)
        record(session, by, "version.delete", team=team, model=model, version=number)
        return version_info(session, row, version)

    @writes
    def restore_version(self, session: Session, team: str, model: str, number: int, by: Actor) -> VersionInfo:
        """Show a deleted version again.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there never was such a version, or its model is deleted.
            NotDeletedError: it is live, or it was purged and is gone for good.
        """
        row = lock_model(session, team, model)
        version = get_version_number(session, row, number, include_deleted=True)
        _require_deleted(row, version)
        version.deleted_at = version.deleted_by = None
        row.updated_at = utc_now()
        _recount(session, row, +1)
        record(session, by, "version.restore", team=team, model=model, version=number)
        return version_info(session, row, version)

    @writes
    def purge_version(  # noqa: PLR0917 - a version is named by three words
        self, session: Session, team: str, model: str, number: int, by: Actor, reason: str
    ) -> Purged:
        """Remove the content of a deleted version for good. Its number stays taken, its annotations stay readable.

        A version of a deleted model counts as deleted; an alias that pointed at it is removed.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there never was such a version.
            NotDeletedError: it is live, or purged already.
        """
        row = lock_model(session, team, model, deleted=True)
        version = get_version_number(session, row, number, include_deleted=True)
        now = utc_now()
        if row.deleted_at is not None and version.deleted_at is None:
            version.deleted_at, version.deleted_by = row.deleted_at, row.deleted_by
            _recount(session, row, -1)
        _require_deleted(row, version)
        for alias in _aliases_of(session, row, number):  # only a deleted model's versions can have any
            point_alias(session, row, alias, None, by=by, reason=f"version {number} was purged: {reason}")
        purged = _purge_content(session, version, now + DOOM_DELAY)
        version.purged_at = row.updated_at = now
        version.purged_by, version.purge_reason = by.name, reason
        version.builder, version.wrappers, version.notices, version.weights = None, [], [], []
        freed = {"freed_bytes": purged.freed_bytes, "still_held_bytes": purged.still_held_bytes}
        record(session, by, "version.purge", team=team, model=model, version=number, reason=reason, **freed)
        return purged


def _aliases_of(session: Session, model: ModelRow, number: int) -> list[str]:
    points = AliasRow.model_id == model.id, AliasRow.number == number
    return list(session.scalars(select(AliasRow.name).where(*points).order_by(AliasRow.name)))


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


_Keyed = list[tuple[VersionRow, list[Any]]]


def _by_column(session: Session, query: Select[VersionRow], sort: str, cursor: str | None, limit: int) -> _Keyed:
    descending = sort.startswith("-")
    if sort.removeprefix("-") == "number":
        after = None if cursor is None else decode_cursor(cursor, sort, (int,))
        chosen = seek(query, (VersionRow.number,), descending=descending, after=after, limit=limit)
        return [(version, [version.number]) for version in session.scalars(chosen)]
    if sort.removeprefix("-") == "created":
        after = None if cursor is None else decode_cursor(cursor, sort, (datetime, int))
        columns = (VersionRow.created_at, VersionRow.number)
        chosen = seek(query, columns, descending=descending, after=after, limit=limit)
        return [(version, [version.created_at, version.number]) for version in session.scalars(chosen)]
    raise InvalidRequestError(
        f"Versions cannot be sorted by {sort!r}. Use number, created or metrics.NAME, or one with a `-`."
    )


def _by_metric(  # noqa: PLR0917 - all that a page is
    session: Session, model: ModelRow, query: Select[VersionRow], sort: str, cursor: str | None, limit: int
) -> _Keyed:
    """Walk the metric's index, and once it ends the versions without the metric: never a sort of all versions."""
    name = sort.removeprefix("-").removeprefix(_METRIC_PREFIX)
    after = None if cursor is None else decode_cursor(cursor, sort, (float | int | None, int))
    found: _Keyed = []
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
    return found


def _require_deleted(model: ModelRow, version: VersionRow) -> None:
    full = f"{model.team}/{model.name}:{version.number}"
    if version.purged_at is not None:
        raise NotDeletedError(f"{full} was purged by {version.purged_by}: {version.purge_reason}. It is gone for good.")
    if version.deleted_at is None:
        raise NotDeletedError(f"{full} is not deleted.")


def _recount(session: Session, model: ModelRow, change: int) -> None:
    """Bring what the model's row keeps of its versions up to date. The caller holds its lock."""
    session.flush()
    model.version_count += change
    model.latest = find_latest(session, model)


def _purge_content(session: Session, version: VersionRow, not_before: datetime) -> Purged:
    """Delete the artifacts of a version, and what nothing else refers to: manifests and objects."""
    artifacts = select(ArtifactRow.id).where(ArtifactRow.version_id == version.id)
    manifests = select(ArtifactRow.manifest_digest).where(ArtifactRow.version_id == version.id)
    digests: Sequence[str | None] = session.scalars(manifests.where(ArtifactRow.manifest_digest.is_not(None))).all()
    objects = session.scalars(select(ExtentRow.object_id).where(ExtentRow.artifact_id.in_(artifacts)).distinct()).all()
    forget_uses(session, version)
    session.execute(delete(ExtentRow).where(ExtentRow.artifact_id.in_(artifacts)))
    session.execute(delete(ArtifactRow).where(ArtifactRow.version_id == version.id))
    used = exists().where(ArtifactRow.manifest_digest == ManifestRow.digest)
    session.execute(delete(ManifestRow).where(ManifestRow.digest.in_(digests), ~used))
    doomed = doom_objects(session, ObjectRow.id.in_(objects), not_before)
    held = session.scalar(select(func.sum(ObjectRow.size_bytes)).where(ObjectRow.id.in_(objects)))
    return Purged(freed_bytes=doomed.size_bytes, still_held_bytes=int(held or 0))
