"""Rows made again from records: what was recomputed from the bytes, and what nobody but the record knows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from registry.errors import ConflictError
from registry.schema import VersionInfo
from storage.metadata.annotations import record_change, write_metrics, write_tags
from storage.metadata.architectures import record_uses
from storage.metadata.binding import Bound, add_tiles, contents, insert_manifests, insert_storages
from storage.metadata.dump import is_untouched
from storage.metadata.lookup import find_latest, find_model, lock_model
from storage.metadata.models import ensure_model, replace_tags
from storage.metadata.publishing import artifact_row, plain
from storage.metadata.record_shapes import ModelRecord, RecordedBase, RecordedExtent, VersionRecord
from storage.metadata.records import Actor, NewVersion
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.tables import (
    AliasMoveRow,
    AliasRow,
    AnnotationsRow,
    ExtentRow,
    ModelRow,
    ObjectRow,
    RegistryRow,
    VersionRow,
)
from storage.metadata.team_tables import TeamRow


class Rebuilding(Transactional):
    """The part of the catalog that is filled from records."""

    @writes
    def adopt_registry(self, session: Session, registry_id: str) -> None:
        """Become the registry that a blob store belongs to.

        Raises:
            ConflictError: something was done here already.
        """
        if not is_untouched(session):
            raise ConflictError(
                "A catalogue is rebuilt in an empty database only, and something was done in this one: a service that "
                "starts makes an administrator. Use a database that was migrated and never served."
            )
        session.execute(update(RegistryRow).values(registry_id=registry_id))

    @reads
    def has_object(self, session: Session, extent: RecordedExtent) -> bool:
        """Return whether an object was verified already, with the digest and size that a record says."""
        same = ObjectRow.sha256 == extent.sha256, ObjectRow.size_bytes == extent.object_bytes
        return session.scalar(select(ObjectRow.id).where(ObjectRow.location == extent.location, *same)) is not None

    @writes
    def adopt_model(self, session: Session, record: ModelRecord, by: Actor) -> None:
        """Make a model as its record says."""
        ensure_model(session, record.team, record.model, by)
        model = lock_model(session, record.team, record.model, deleted=True)
        model.description, model.visibility = record.description, record.visibility
        model.version_counter = max(model.version_counter, record.version_counter)
        model.created_at, model.created_by, model.updated_at = record.created_at, record.created_by, record.created_at
        model.deleted_at, model.deleted_by = record.deleted_at, record.deleted_by
        replace_tags(session, model, record.tags)

    @writes
    def adopt_version(
        self, session: Session, new: NewVersion, record: VersionRecord, manifests: Mapping[str, bytes]
    ) -> None:
        """Make a version under its old number, of what was verified; who did what and when is the record's."""
        ensure_model(session, new.team, new.model, new.by)
        model = lock_model(session, new.team, new.model, deleted=True)
        version = _insert_version(session, model, new, record)
        insert_manifests(session, manifests)
        for position, artifact in enumerate(new.artifacts):
            row = artifact_row(artifact, version.id, position)
            session.add(row)
            session.flush()
            places = _insert_extents(session, new.team, row.id, record.extents[artifact.info.path])
            for object_id, (storages, tiles) in contents(artifact, places) if new.trust != "unsafe" else ():
                insert_storages(session, new.team, storages, object_id)
                add_tiles(session, object_id, tiles)
        record_uses(session, new, model, version)
        _insert_aliases(session, model, version.number, record)
        model.version_counter = max(model.version_counter, version.number)
        model.updated_at = max(model.updated_at, version.created_at, record.version.annotations.updated_at)
        session.flush()
        shown = VersionRow.model_id == model.id, VersionRow.deleted_at.is_(None), VersionRow.quarantined_at.is_(None)
        model.version_count = session.scalar(select(func.count()).select_from(VersionRow).where(*shown)) or 0
        model.latest = find_latest(session, model)
        more = {"stored_bytes": TeamRow.stored_bytes + version.size_bytes, "version_count": TeamRow.version_count + 1}
        session.execute(update(TeamRow).where(TeamRow.name == new.team).values(more))

    @writes
    def adopt_base(self, session: Session, of: RecordedBase, base: RecordedBase) -> bool:
        """Bind a version to its base again; return whether the base is there."""
        rows: list[VersionRow] = []
        for each in (of, base):
            model = find_model(session, each.team, each.model)
            query = select(VersionRow).where(VersionRow.model_id == (model.id if model else 0))
            found = session.scalars(query.where(VersionRow.number == each.number)).one_or_none()
            rows += [] if found is None else [found]
        if len(rows) != 2:  # noqa: PLR2004 - the version and its base
            return False
        rows[0].base_id = rows[1].id
        return True


def _insert_version(session: Session, model: ModelRow, new: NewVersion, record: VersionRecord) -> VersionRow:
    info, notes = record.version, record.version.annotations
    version = VersionRow(
        model_id=model.id,
        number=info.number,
        kind=new.kind,
        trust=new.trust,
        size_bytes=sum(artifact.info.size_bytes for artifact in new.artifacts),
        builder=plain(info.builder),
        pretrained_cfg=plain(info.pretrained_cfg),
        recipe=plain(info.recipe),
        origin=plain(info.origin),
        wrappers=info.wrappers,
        base=info.base,
        weights=list(new.weights),
        weights_problem=new.weights_problem,
        notices=list(info.notices),
        created_at=info.created_at,
        created_by=info.created_by,
        deleted_at=info.deleted_at,
        deleted_by=record.deleted_by,
        quarantined_at=_quarantined_at(new, info),
    )
    session.add(version)
    session.flush()
    annotations = AnnotationsRow(
        version_id=version.id,
        description=notes.description,
        deprecated=notes.deprecated,
        revision=notes.revision,
        updated_at=notes.updated_at,
        updated_by=notes.updated_by,
    )
    session.add(annotations)
    write_metrics(session, model, version.id, version.number, notes.metrics)
    write_tags(session, model, version.id, notes.tags)
    known: dict[str, Any] = notes.model_dump(mode="json", include={"description", "metrics", "tags", "deprecated"})
    record_change(session, annotations, known)
    return version


def _quarantined_at(new: NewVersion, info: VersionInfo) -> datetime | None:
    """Return since when it is in quarantine: what would do harm is, whatever the record says."""
    return info.quarantined_at or (utc_now() if new.trust == "unsafe" else None)


def _insert_extents(
    session: Session, team: str, artifact_id: int, extents: Sequence[RecordedExtent]
) -> list[tuple[int, int, int]]:
    """Insert the extents of an artifact and their objects; return each as object, offset and length."""
    objects = {extent.location: extent for extent in extents}
    ids = {location: _ensure_object(session, team, extent) for location, extent in sorted(objects.items())}
    places = [(ids[extent.location], extent.offset, extent.length) for extent in extents]
    rows = [
        {"artifact_id": artifact_id, "position": position, **Bound(*place)._asdict()}
        for position, place in enumerate(places)
    ]
    session.execute(insert(ExtentRow), rows)
    return places


def _ensure_object(session: Session, team: str, extent: RecordedExtent) -> int:
    values = {"location": extent.location, "team": team, "sha256": extent.sha256, "size_bytes": extent.object_bytes}
    statement = insert_for(session, ObjectRow).values(**values, created_at=utc_now())
    session.execute(statement.on_conflict_do_nothing())
    same = ObjectRow.team == team, ObjectRow.sha256 == extent.sha256
    return session.scalars(select(ObjectRow.id).where(*same)).one()


def _insert_aliases(session: Session, model: ModelRow, number: int, record: VersionRecord) -> None:
    for alias in record.aliases:
        moved = {"model_id": model.id, "name": alias.name, "revision": alias.revision}
        row = insert_for(session, AliasRow).values(
            **moved, number=number, updated_at=alias.updated_at, updated_by=alias.updated_by
        )
        # Of two records that name an alias, one is older.
        newer = {"number": number, "revision": alias.revision}
        newer |= {"updated_at": alias.updated_at, "updated_by": alias.updated_by}
        at = row.on_conflict_do_update(
            index_elements=["model_id", "name"], set_=newer, where=AliasRow.revision < alias.revision
        )
        session.execute(at)
        move = insert_for(session, AliasMoveRow).values(
            **moved,
            from_number=None,
            to_number=number,
            moved_at=alias.updated_at,
            moved_by=alias.updated_by,
            reason="known from a record: the moves before are lost",
        )
        session.execute(move.on_conflict_do_nothing())
