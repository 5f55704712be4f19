"""Records in the catalog: which are to be written, what they say, and when one was written."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from storage.metadata.due import note_due
from storage.metadata.record_shapes import ModelRecord, RecordedAlias, RecordedBase, RecordedExtent, VersionRecord
from storage.metadata.record_tables import OF_THE_MODEL, RecordDueRow
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.shapes import model_infos, version_info
from storage.metadata.tables import AliasRow, ArtifactRow, ExtentRow, ModelRow, ObjectRow, RegistryRow, VersionRow


class Due(NamedTuple):
    """A record to be written: of which model and version, and after how many changes."""

    model_id: int
    number: int
    change: int


class Described(NamedTuple):
    """What a record is to say; None where it is to go, because the version was purged."""

    team: str
    model: str
    number: int
    record: VersionRecord | ModelRecord | None


class Recording(Transactional):
    """The part of the catalog that knows what is written down beside the objects."""

    @writes
    def claim_records(self, session: Session, now: datetime, until: datetime, limit: int) -> list[Due]:
        """Return records that are to be written; nobody else is given them before `until`."""
        due = select(RecordDueRow).where(RecordDueRow.due_at <= now).order_by(RecordDueRow.due_at).limit(limit)
        rows = session.scalars(due.with_for_update(skip_locked=True)).all()
        for row in rows:
            row.due_at = until
        return [Due(row.model_id, row.number, row.change) for row in rows]

    @reads
    def describe_record(self, session: Session, model_id: int, number: int) -> Described:
        """Return what the record of a version, or under the number 0 of a model, is to say."""
        model = session.get_one(ModelRow, model_id)
        registry_id = session.scalars(select(RegistryRow.registry_id)).one()
        if number == OF_THE_MODEL:
            return Described(model.team, model.name, number, _model_record(session, registry_id, model))
        which = VersionRow.model_id == model_id, VersionRow.number == number, VersionRow.purged_at.is_(None)
        version = session.scalars(select(VersionRow).where(*which)).one_or_none()
        found = None if version is None else _version_record(session, registry_id, model, version)
        return Described(model.team, model.name, number, found)

    @writes
    def finish_records(
        self, session: Session, written: Sequence[Due], missed: Sequence[Due], retry_at: datetime
    ) -> None:
        """Forget what was written, unless it has changed since; what was missed is due at `retry_at`."""
        now = utc_now()
        for due in written:
            same = RecordDueRow.model_id == due.model_id, RecordDueRow.number == due.number
            session.execute(delete(RecordDueRow).where(*same, RecordDueRow.change == due.change))
            session.execute(update(RecordDueRow).where(*same).values(due_at=now))
        if missed:
            session.execute(update(RecordDueRow).where(_any_of(missed)).values(due_at=retry_at))

    @reads
    def count_due_records(self, session: Session) -> int:
        """Return how many records tell less than the rows."""
        return session.scalar(select(func.count()).select_from(RecordDueRow)) or 0

    @reads
    def list_recorded(
        self, session: Session, after: tuple[int, int], limit: int
    ) -> list[tuple[tuple[int, int], str, str]]:
        """Return (model id, number), team and model of what has a record and none that is due, in order.

        A model's own record comes under the number 0, before those of its versions.
        """
        due = select(RecordDueRow).where(RecordDueRow.model_id == ModelRow.id)
        key = VersionRow.model_id, VersionRow.number
        versions = (
            select(*key, ModelRow.team, ModelRow.name)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(VersionRow.purged_at.is_(None), ~due.where(RecordDueRow.number == VersionRow.number).exists())
            .where(or_(key[0] > after[0], and_(key[0] == after[0], key[1] > after[1])))
            .order_by(*key)
            .limit(limit)
        )
        return [((row.model_id, row.number), row.team, row.name) for row in session.execute(versions)]

    @reads
    def list_recorded_models(self, session: Session, after: int, limit: int) -> list[tuple[int, str, str]]:
        """Return id, team and name of models whose own record is not due, by id."""
        due = select(RecordDueRow).where(RecordDueRow.model_id == ModelRow.id, RecordDueRow.number == OF_THE_MODEL)
        query = select(ModelRow.id, ModelRow.team, ModelRow.name).where(ModelRow.id > after, ~due.exists())
        return [(row.id, row.team, row.name) for row in session.execute(query.order_by(ModelRow.id).limit(limit))]

    @reads
    def is_recorded(self, session: Session, model_id: int, number: int) -> bool:
        """Return whether a record must be there now: not due, and its version not purged."""
        if session.get(RecordDueRow, (model_id, number)) is not None:
            return False
        if number == OF_THE_MODEL:
            return True
        version = VersionRow.model_id == model_id, VersionRow.number == number, VersionRow.purged_at.is_(None)
        return session.scalar(select(VersionRow.id).where(*version)) is not None

    @reads
    def is_record_due(self, session: Session, team: str, model: str, number: int) -> bool:
        """Return whether a record is to be written or removed."""
        named = ModelRow.team == team, ModelRow.name == model, RecordDueRow.number == number
        query = select(RecordDueRow.number).join(ModelRow, ModelRow.id == RecordDueRow.model_id).where(*named)
        return session.scalar(query) is not None

    @writes
    def write_record_again(self, session: Session, model_id: int, number: int) -> None:
        """Note that a record is to be written, whatever became of the one that was."""
        note_due(session, session.get_one(ModelRow, model_id, with_for_update=True), number)


def _any_of(several: Sequence[Due]) -> ColumnElement[bool]:
    return or_(*(and_(RecordDueRow.model_id == each.model_id, RecordDueRow.number == each.number) for each in several))


def _model_record(session: Session, registry_id: str, model: ModelRow) -> ModelRecord:
    [info] = model_infos(session, [model])
    return ModelRecord(
        registry_id=registry_id,
        team=model.team,
        model=model.name,
        description=info.description,
        visibility=info.visibility,
        tags=info.tags,
        version_counter=model.version_counter,
        created_at=model.created_at,
        created_by=model.created_by,
        deleted_at=model.deleted_at,
        deleted_by=model.deleted_by,
    )


def _version_record(session: Session, registry_id: str, model: ModelRow, version: VersionRow) -> VersionRecord:
    points = select(AliasRow).where(AliasRow.model_id == model.id, AliasRow.number == version.number)
    return VersionRecord(
        registry_id=registry_id,
        version=version_info(session, model, version).model_copy(update={"damaged": [], "aliases": []}),
        deleted_by=version.deleted_by,
        base=_base(session, version),
        aliases=[
            RecordedAlias(
                name=alias.name, revision=alias.revision, updated_at=alias.updated_at, updated_by=alias.updated_by
            )
            for alias in session.scalars(points.order_by(AliasRow.name))
        ],
        extents=_extents(session, version),
    )


def _base(session: Session, version: VersionRow) -> RecordedBase | None:
    if version.base_id is None:
        return None
    query = select(ModelRow.team, ModelRow.name, VersionRow.number).join(ModelRow, ModelRow.id == VersionRow.model_id)
    team, model, number = session.execute(query.where(VersionRow.id == version.base_id)).one()
    return RecordedBase(team=team, model=model, number=number)


def _extents(session: Session, version: VersionRow) -> dict[str, list[RecordedExtent]]:
    query = (
        select(ArtifactRow.path, ObjectRow, ExtentRow)
        .join(ExtentRow, ExtentRow.artifact_id == ArtifactRow.id)
        .join(ObjectRow, ObjectRow.id == ExtentRow.object_id)
        .where(ArtifactRow.version_id == version.id)
        .order_by(ArtifactRow.position, ExtentRow.position)
    )
    found: dict[str, list[RecordedExtent]] = {}
    for path, stored, extent in session.execute(query):
        place = RecordedExtent(
            location=stored.location,
            sha256=stored.sha256,
            object_bytes=stored.size_bytes,
            offset=extent.offset,
            length=extent.length,
        )
        found.setdefault(path, []).append(place)
    return found
