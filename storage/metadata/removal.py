"""Removing versions in the catalog: hide them, show them again, drop their content for good."""

from datetime import datetime

from sqlalchemy import Select, delete, exists, func, select
from sqlalchemy.orm import Session

from registry.errors import NotDeletedError, VersionInUseError
from registry.schema import VersionInfo
from storage.metadata.aliases import point_alias
from storage.metadata.architectures import forget_uses
from storage.metadata.audit import record
from storage.metadata.due import note_due
from storage.metadata.garbage import DOOM_DELAY, let_go, lock_objects
from storage.metadata.lookup import find_latest, get_version_number, lock_model, visible
from storage.metadata.quotas import give_room
from storage.metadata.records import Actor, Purged, Sight
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.shapes import version_info
from storage.metadata.tables import AliasRow, ArtifactRow, ExtentRow, ManifestRow, ModelRow, ObjectRow, VersionRow

_NAMED = 20
"""Versions that a message or an answer names at most."""
EVERYTHING = Sight(everything=True, quarantine=True)


class Removal(Transactional):
    """The part of the catalog that removes versions."""

    @writes
    def delete_version(
        self,
        session: Session,
        team: str,
        model: str,
        number: int,
        by: Actor,
        *,
        is_forced: bool = False,
        sight: Sight | None = EVERYTHING,
    ) -> VersionInfo:
        """Hide a version; `restore_version` shows it again and its number is never given to another.

        The error names those of the others that can be seen; without `sight` none.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is no such live version.
            VersionInUseError: an alias points at it; or others are based on it and it is not forced.
        """
        row = lock_model(session, team, model)
        version = get_version_number(session, row, number, include_quarantined=True)
        _require_unused(session, row, version, sight, is_forced=is_forced)
        version.deleted_at = row.updated_at = utc_now()
        version.deleted_by = by.name
        _recount(session, row, version, -1)
        note_due(session, row, number)
        record(session, by, "version.delete", team=team, model=model, version=number, forced=is_forced)
        return version_info(session, row, version)

    @writes
    def restore_version(
        self, session: Session, team: str, model: str, number: int, by: Actor, *, include_quarantined: bool = False
    ) -> VersionInfo:
        """Show a deleted version again.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there never was such a version, or its model is deleted.
            NotDeletedError: it is live, or it was purged and is gone for good.
        """
        row = lock_model(session, team, model)
        version = get_version_number(
            session, row, number, include_deleted=True, include_quarantined=include_quarantined
        )
        _require_deleted(row, version)
        version.deleted_at = version.deleted_by = None
        row.updated_at = utc_now()
        _recount(session, row, version, +1)
        note_due(session, row, number)
        record(session, by, "version.restore", team=team, model=model, version=number)
        return version_info(session, row, version)

    @writes
    def purge_version(  # noqa: PLR0917 - a version is named by three words
        self,
        session: Session,
        team: str,
        model: str,
        number: int,
        by: Actor,
        reason: str,
        *,
        is_live: bool = False,
        sight: Sight | None = EVERYTHING,
    ) -> Purged:
        """Remove the content of a deleted version for good. Its number stays taken, its annotations stay readable.

        A version of a deleted model counts as deleted; so does a live one with `is_live`, whoever names it as base.
        An alias that points at it is removed. The answer names those that hold its bytes and can be seen; without
        `sight` none.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there never was such a version.
            NotDeletedError: it is live and `is_live` is not given, or it was purged already.
        """
        row = lock_model(session, team, model, deleted=True)
        version = get_version_number(session, row, number, include_deleted=True, include_quarantined=True)
        now = utc_now()
        if version.deleted_at is None and (is_live or row.deleted_at is not None):
            version.deleted_at = row.deleted_at or now
            version.deleted_by = row.deleted_by or by.name
            for alias in _find_aliases(session, row, number):
                point_alias(session, row, alias, None, by=by, reason=f"version {number} was purged: {reason}")
            _recount(session, row, version, -1)
        _require_deleted(row, version, "Delete it first, or purge it at once with `now` (`--now`).")
        purged = _purge_content(session, version, now + DOOM_DELAY, sight)
        version.purged_at = row.updated_at = now
        version.purged_by, version.purge_reason = by.name, reason
        version.builder, version.wrappers, version.notices, version.weights = None, [], [], []
        note_due(session, row, number)
        freed = {"freed_bytes": purged.freed_bytes, "still_held_bytes": purged.still_held_bytes}
        record(session, by, "version.purge", team=team, model=model, version=number, reason=reason, **freed)
        give_room(session, team, version.size_bytes)
        return purged

    @reads
    def list_expired_versions(self, session: Session, before: datetime, limit: int) -> list[tuple[str, str, int]]:
        """Return team, model and number of versions that were deleted, alone or with their model, before a moment."""
        names = select(ModelRow.team, ModelRow.name, VersionRow.number).join_from(
            VersionRow, ModelRow, ModelRow.id == VersionRow.model_id
        )
        alone = names.where(VersionRow.purged_at.is_(None), VersionRow.deleted_at < before)
        with_model = names.where(
            VersionRow.purged_at.is_(None), VersionRow.deleted_at.is_(None), ModelRow.deleted_at < before
        )
        found = [*session.execute(alone.limit(limit)), *session.execute(with_model.limit(limit))]
        return [(team, model, number) for team, model, number in found[:limit]]


def _require_deleted(model: ModelRow, version: VersionRow, way: str = "") -> None:
    full = f"{model.team}/{model.name}:{version.number}"
    if version.purged_at is not None:
        raise NotDeletedError(f"{full} was purged by {version.purged_by}: {version.purge_reason}. It is gone for good.")
    if version.deleted_at is None:
        raise NotDeletedError(f"{full} is not deleted. {way}".rstrip())


def _recount(session: Session, model: ModelRow, version: VersionRow, change: int) -> None:
    """Bring what the model's row keeps of its versions up to date. The caller holds its lock."""
    session.flush()
    if version.quarantined_at is None:
        model.version_count += change
    model.latest = find_latest(session, model)


def _require_unused(
    session: Session, model: ModelRow, version: VersionRow, sight: Sight | None, *, is_forced: bool
) -> None:
    """Raise when an alias points at a version, or versions are based on it and it is not forced."""
    full = f"{model.team}/{model.name}:{version.number}"
    aliases = _find_aliases(session, model, version.number)
    if aliases:
        names = ", ".join(f"`{alias}`" for alias in aliases)
        raise VersionInUseError(f"{full} is what {names} points at. Move or remove the alias first.", aliases=aliases)
    based = (
        select(ModelRow.team, ModelRow.name, VersionRow.number)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
        .where(VersionRow.base_id == version.id, VersionRow.deleted_at.is_(None), ModelRow.deleted_at.is_(None))
    )
    named, more = ([], 0) if is_forced else _name_versions(session, based, sight)
    if named or more:
        told = ", ".join([*named, *([f"{more} more" if named else f"{more} that you may not see"] if more else [])])
        raise VersionInUseError(
            f"{full} is the base of {told}. They keep working without it; delete it all the same with `force=true` "
            "(`--force`).",
            bases=named,
            more_bases=more,
        )


def _find_aliases(session: Session, model: ModelRow, number: int) -> list[str]:
    points = AliasRow.model_id == model.id, AliasRow.number == number
    return list(session.scalars(select(AliasRow.name).where(*points).order_by(AliasRow.name)))


def _purge_content(session: Session, version: VersionRow, not_before: datetime, sight: Sight | None) -> Purged:
    """Delete the artifacts of a version, and what nothing else refers to: manifests and objects."""
    artifacts = select(ArtifactRow.id).where(ArtifactRow.version_id == version.id)
    manifests = select(ArtifactRow.manifest_digest).where(ArtifactRow.version_id == version.id)
    digests = list(session.scalars(manifests.where(ArtifactRow.manifest_digest.is_not(None))))
    objects = lock_objects(session, select(ExtentRow.object_id).where(ExtentRow.artifact_id.in_(artifacts)))
    forget_uses(session, version)
    session.execute(delete(ExtentRow).where(ExtentRow.artifact_id.in_(artifacts)))
    session.execute(delete(ArtifactRow).where(ArtifactRow.version_id == version.id))
    used = exists().where(ArtifactRow.manifest_digest == ManifestRow.digest)
    session.execute(delete(ManifestRow).where(ManifestRow.digest.in_(digests), ~used))
    doomed = let_go(session, objects, not_before)
    held = session.scalar(select(func.sum(ObjectRow.size_bytes)).where(ObjectRow.id.in_(objects)))
    holders = (
        select(ModelRow.team, ModelRow.name, VersionRow.number)
        .join(VersionRow, VersionRow.model_id == ModelRow.id)
        .join(ArtifactRow, ArtifactRow.version_id == VersionRow.id)
        .join(ExtentRow, ExtentRow.artifact_id == ArtifactRow.id)
        .where(ExtentRow.object_id.in_(objects))
        .distinct()
    )
    return Purged(doomed.size_bytes, int(held or 0), *_name_versions(session, holders, sight))


def _name_versions(session: Session, chosen: Select[str, str, int], sight: Sight | None) -> tuple[list[str], int]:
    """Return the first of some versions that somebody may see, and how many there are beside these."""
    count = session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    if sight is None:
        return [], count
    shown = chosen.where(*visible(sight))
    if not sight.quarantine:
        shown = shown.where(VersionRow.quarantined_at.is_(None))
    first = shown.order_by(ModelRow.team, ModelRow.name, VersionRow.number).limit(_NAMED)
    named = [f"{team}/{name}:{number}" for team, name, number in session.execute(first)]
    return named, count - len(named)
