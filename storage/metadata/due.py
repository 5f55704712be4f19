"""Which records tell less than the rows: noted in the transaction that changes them, so that none is forgotten."""

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from storage.metadata.record_tables import OF_THE_MODEL, RecordDueRow
from storage.metadata.session import insert_for, utc_now
from storage.metadata.tables import ArtifactRow, ExtentRow, ModelRow, VersionRow

_COLUMNS = ["model_id", "number", "change", "due_at"]


def note_due(session: Session, model: ModelRow, *numbers: int | None) -> None:
    """Note that the records of versions, or of the model itself under `OF_THE_MODEL`, are to be written.

    The caller holds the lock of the model's row.
    """
    for number in sorted({number for number in numbers if number is not None}):
        _note(session, model.id, number)


def _note(session: Session, model_id: int, number: int) -> None:
    row = insert_for(session, RecordDueRow).values(model_id=model_id, number=number, change=1, due_at=utc_now())
    again = {"change": RecordDueRow.change + 1}
    session.execute(row.on_conflict_do_update(index_elements=["model_id", "number"], set_=again))


def note_versions_due(session: Session, model: ModelRow) -> None:
    """Note that the records of all versions of a model are to be written. The caller holds the lock of its row."""
    kept = VersionRow.model_id == model.id, VersionRow.purged_at.is_(None)
    note_due(session, model, *session.scalars(select(VersionRow.number).where(*kept)))


def note_holders_due(session: Session, object_id: int) -> None:
    """Note that the records of all versions that have an object are to be written: it lies elsewhere now."""
    query = (
        select(VersionRow.model_id, VersionRow.number)
        .join(ArtifactRow, ArtifactRow.version_id == VersionRow.id)
        .join(ExtentRow, ExtentRow.artifact_id == ArtifactRow.id)
        .where(ExtentRow.object_id == object_id)
        .distinct()
        .order_by(VersionRow.model_id, VersionRow.number)
    )
    for model_id, number in session.execute(query).all():
        _note(session, model_id, number)


def note_all_due(session: Session) -> None:
    """Note that all records are to be written: the rows came from elsewhere."""
    now = utc_now()
    models = select(ModelRow.id, literal(OF_THE_MODEL), literal(1), literal(now, RecordDueRow.due_at.type))
    versions = select(VersionRow.model_id, VersionRow.number, literal(1), literal(now, RecordDueRow.due_at.type))
    for query in (models, versions.where(VersionRow.purged_at.is_(None))):
        session.execute(insert(RecordDueRow).from_select(_COLUMNS, query))
