"""The table of records that are to be written beside the objects."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from storage.metadata.columns import Base

OF_THE_MODEL = 0
"""In place of a version's number: the record of the model itself."""


class RecordDueRow(Base):
    """A record that tells less than the rows: of a version, or of a model under the number 0.

    Whoever writes it puts `due_at` off first, so that nobody else does meanwhile, and deletes the row afterwards if
    `change` is still what they wrote.
    """

    __tablename__ = "records_due"
    __table_args__ = (Index(None, "due_at"),)

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    change: Mapped[int]
    due_at: Mapped[datetime]
