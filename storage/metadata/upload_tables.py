"""The tables of planned uploads: what shall become a version, and where its bytes are gathered."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.uploads import UploadState
from storage.metadata.columns import Base


class UploadRow(Base):
    """A planned upload. Its bytes have write intents until it is published; the row stays a while to answer retries.

    Whoever verifies it holds it by `lease_holder` until `lease_until`; without a sign of life somebody else may.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        UniqueConstraint("created_by", "team", "model", "key"),
        Index(None, "state", "expires_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    team: Mapped[str]
    model: Mapped[str]
    created_by: Mapped[str]
    key: Mapped[str | None]
    fingerprint: Mapped[str]
    state: Mapped[UploadState] = mapped_column(Text())
    direct: Mapped[bool]
    document: Mapped[dict[str, Any]]
    number: Mapped[int | None]
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    lease_holder: Mapped[str | None]
    lease_until: Mapped[datetime | None]


class UploadFileRow(Base):
    """A file of an upload: the location where its parts are gathered. Which of them are there, the blob store knows.

    `extents` say how the artifact will lie, where some of it is stored already: object (null is what is sent), offset
    and length of each. What is sent is then gathered at `location`; nothing is, where all is stored.
    `claimed` are its tiles, as `objects.tiles` are kept, where no digest of all of it was announced.
    """

    __tablename__ = "upload_files"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    size_bytes: Mapped[int]
    part_bytes: Mapped[int]
    location: Mapped[str] = mapped_column(unique=True)
    multipart_id: Mapped[str]
    extents: Mapped[list[list[int | None]] | None] = mapped_column(JSON(none_as_null=True))
    claimed: Mapped[bytes | None]
