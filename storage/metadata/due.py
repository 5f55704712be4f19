"""Which records tell less than the rows: noted in the transaction that changes them, so that none is forgotten."""

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from storage.metadata.record_tables import OF_THE_MODEL, RecordDueRow
from storage.metadata.session import insert_for, utc_now
from storage.metadata.tables import ModelRow, VersionRow

_COLUMNS = ["model_id", "number", "change", "due_at"]


def note_due(session: Session, model: ModelRow, *numbers: int | None) -> None:
    """Note that the records of versions, or of the model itself under `OF_THE_MODEL`, are to be written.

    The caller holds the lock of the model's row.
    """
    now = utc_now()
    for number in sorted({number for number in numbers if number is not None}):
        statement = insert_for(session, RecordDueRow).values(model_id=model.id, number=number, change=1, due_at=now)
        again = {"change": RecordDueRow.change + 1}
        session.execute(statement.on_conflict_do_update(index_elements=["model_id", "number"], set_=again))


def note_all_due(session: Session) -> None:
    """Note that all records are to be written: the rows came from elsewhere."""
    now = utc_now()
    models = select(ModelRow.id, literal(OF_THE_MODEL), literal(1), literal(now, RecordDueRow.due_at.type))
    versions = select(VersionRow.model_id, VersionRow.number, literal(1), literal(now, RecordDueRow.due_at.type))
    for query in (models, versions.where(VersionRow.purged_at.is_(None))):
        session.execute(insert(RecordDueRow).from_select(_COLUMNS, query))
