"""The tables of the index over architectures: rows exist per architecture, never per tensor of a version."""

from sqlalchemy import BigInteger, ForeignKey, Index, PrimaryKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.metadata.columns import Base, Id


class ArchitectureRow(Base):
    """An architecture that some version has: its document, zlib-compressed, once under its digest.

    `weight_count` counts its tensors but for the counters of BatchNorm.
    """

    __tablename__ = "architectures"

    id: Mapped[Id]
    digest: Mapped[str] = mapped_column(unique=True)
    weight_count: Mapped[int]
    document: Mapped[bytes]


class ArchitectureMarkRow(Base):
    """How often an architecture has something that others may have too: a shape under a name, or a whole submodule.

    A search reads nothing but the key, which holds the count on both databases.
    """

    __tablename__ = "architecture_marks"
    __table_args__ = (
        PrimaryKeyConstraint("mark", "architecture_id", postgresql_include=["count"]),
        Index(None, "architecture_id"),
        {"sqlite_with_rowid": False},
    )

    mark: Mapped[int] = mapped_column(BigInteger())
    architecture_id: Mapped[int] = mapped_column(ForeignKey("architectures.id", ondelete="CASCADE"))
    count: Mapped[int]


class ArchitectureUseRow(Base):
    """A state_dict of a version, and its architecture. A version has several where none of them is the obvious one.

    `path` names the artifact and `part` the state_dict inside a checkpoint, where the version's reference alone means
    neither.
    """

    __tablename__ = "architecture_uses"
    __table_args__ = (Index(None, "architecture_id", "model_id", "version_id"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    architecture_id: Mapped[int] = mapped_column(ForeignKey("architectures.id", ondelete="RESTRICT"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    path: Mapped[str | None]
    part: Mapped[str | None]
