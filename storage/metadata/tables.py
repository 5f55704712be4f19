"""The tables, and nothing else: what a row holds and which rows the database refuses to lose."""

from datetime import datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.formats.inspection import Kind, Trust
from registry.teams import Visibility
from storage.metadata.columns import Base, Id, Name

WeightsProblem: TypeAlias = Literal["no_weights", "ambiguous_weights"]


INDEXED_CHARACTERS = 100
"""How much of a tag's value is in `value_start`: PostgreSQL indexes at most 2,704 bytes of a row."""
_LIVE = text("deleted_at IS NULL")
_DELETED = text("deleted_at IS NOT NULL")
_DAMAGED = text("damaged_at IS NOT NULL")
_SHRUNK = text("shrunk_at IS NOT NULL")
_UNPURGED = text("deleted_at IS NOT NULL AND purged_at IS NULL")


class RegistryRow(Base):
    """The one row that says which registry this is; the blob store carries the same id."""

    __tablename__ = "registry"

    registry_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]


class ModelRow(Base):
    """A line of versions. The row stays for ever, so that `version_counter` never hands out a number twice.

    `latest`, `version_count` (live ones outside of quarantine) and `search_text` follow from other rows and are kept
    here, so that listing models never counts versions. Whoever changes them holds the lock of this row.
    """

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("team", "name"),
        Index(None, "updated_at", "id"),
        Index(None, "created_at", "id"),
        Index("ix_models_deleted", "deleted_at", postgresql_where=_DELETED, sqlite_where=_DELETED),
    )

    id: Mapped[Id]
    team: Mapped[Name]
    name: Mapped[Name]
    description: Mapped[str]
    visibility: Mapped[Visibility] = mapped_column(Text(), default="team", server_default="team")
    search_text: Mapped[str]
    version_counter: Mapped[int] = mapped_column(default=0)
    version_count: Mapped[int] = mapped_column(default=0)
    latest: Mapped[int | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    deleted_by: Mapped[str | None]


class ModelTagRow(Base):
    """A tag of a model."""

    __tablename__ = "model_tags"
    __table_args__ = (Index(None, "key", "value_start", "model_id"),)

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
    value_start: Mapped[str]


class VersionRow(Base):
    """The content of a version, and whether it is still there. A purged version keeps this row and its number."""

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        Index("ix_versions_live", "model_id", "number", postgresql_where=_LIVE, sqlite_where=_LIVE),
        Index(None, "model_id", "created_at", "number"),
        Index(None, "base_id"),
        Index("ix_versions_unpurged", "deleted_at", postgresql_where=_UNPURGED, sqlite_where=_UNPURGED),
    )

    id: Mapped[Id]
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    number: Mapped[int]
    kind: Mapped[Kind] = mapped_column(Text())
    trust: Mapped[Trust] = mapped_column(Text())
    size_bytes: Mapped[int]
    builder: Mapped[dict[str, Any] | None]
    pretrained_cfg: Mapped[dict[str, Any] | None]
    recipe: Mapped[dict[str, Any] | None]
    origin: Mapped[dict[str, Any] | None]
    wrappers: Mapped[list[str]]
    base: Mapped[str | None]
    base_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    weights: Mapped[list[str]]
    weights_problem: Mapped[WeightsProblem | None] = mapped_column(Text())
    notices: Mapped[list[str]]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    deleted_at: Mapped[datetime | None]
    deleted_by: Mapped[str | None]
    purged_at: Mapped[datetime | None]
    purged_by: Mapped[str | None]
    purge_reason: Mapped[str | None]
    quarantined_at: Mapped[datetime | None]


class AnnotationsRow(Base):
    """What may change of a version, apart from its content; metrics and tags have rows of their own."""

    __tablename__ = "annotations"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    description: Mapped[str]
    deprecated: Mapped[str | None]
    revision: Mapped[int]
    updated_at: Mapped[datetime]
    updated_by: Mapped[str]


class AnnotationChangeRow(Base):
    """Who changed what of the annotations, and when; revision 1 is what was pushed."""

    __tablename__ = "annotation_changes"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    changed_at: Mapped[datetime]
    changed_by: Mapped[str]
    changes: Mapped[dict[str, Any]]


class MetricRow(Base):
    """A metric of a version, with what sorting a model's versions by it needs."""

    __tablename__ = "metrics"
    __table_args__ = (Index(None, "model_id", "name", "value", "number"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    model_id: Mapped[int]
    number: Mapped[int]


class TagRow(Base):
    """A tag of a version, with what filtering a model's versions by it needs."""

    __tablename__ = "version_tags"
    __table_args__ = (Index(None, "model_id", "key", "value_start", "version_id"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
    value_start: Mapped[str]
    model_id: Mapped[int]


class ManifestRow(Base):
    """A tensor manifest, zlib-compressed, once under the digest of its canonical bytes."""

    __tablename__ = "manifests"

    digest: Mapped[str] = mapped_column(primary_key=True)
    compressed: Mapped[bytes]


class ArtifactRow(Base):
    """A named file of a version.

    `folded_digest` is the SHA-256 of the path as file systems that ignore case see it; the path itself can be longer
    than what PostgreSQL indexes.
    """

    __tablename__ = "artifacts"
    __table_args__ = (
        UniqueConstraint("version_id", "folded_digest"),
        Index(None, "sha256", "version_id"),
        Index(None, "manifest_digest"),
    )

    id: Mapped[Id]
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    position: Mapped[int]
    path: Mapped[str]
    folded_digest: Mapped[str]
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    blake3: Mapped[str]
    format: Mapped[str | None]
    kind: Mapped[Kind] = mapped_column(Text())
    trust: Mapped[Trust] = mapped_column(Text())
    reasons: Mapped[list[str]]
    globals: Mapped[list[str]]
    global_count: Mapped[int | None]
    manifest_digest: Mapped[str | None] = mapped_column(ForeignKey("manifests.digest", ondelete="RESTRICT"))
    tensor_count: Mapped[int]
    parameter_count: Mapped[int]


class ObjectRow(Base):
    """Verified bytes at a location. One per team and digest; a location is never used twice.

    `damaged_at` says when they were found missing or changed: nothing is read from there until the same bytes come
    again. `released_at` says when a purge took the last version away from it while an open upload held it, `shrunk_at`
    when one took a version away and left others: part of it may be dead, until the collector has looked. `tiles` is how
    it is cut (`tile_lists`), for finding what lies between its storages again; older rows do not say.
    """

    __tablename__ = "objects"
    __table_args__ = (
        UniqueConstraint("team", "sha256"),
        Index("ix_objects_damaged", "damaged_at", postgresql_where=_DAMAGED, sqlite_where=_DAMAGED),
        Index("ix_objects_shrunk", "id", postgresql_where=_SHRUNK, sqlite_where=_SHRUNK),
    )

    id: Mapped[Id]
    location: Mapped[str] = mapped_column(unique=True)
    team: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime]
    damaged_at: Mapped[datetime | None]
    released_at: Mapped[datetime | None]
    shrunk_at: Mapped[datetime | None]
    tiles: Mapped[bytes | None] = mapped_column(deferred=True, deferred_raiseload=True)


class ExtentRow(Base):
    """A byte range of an object. While it exists, the database refuses to delete the object."""

    __tablename__ = "extents"
    __table_args__ = (Index(None, "object_id"),)

    artifact_id: Mapped[int] = mapped_column(ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("objects.id", ondelete="RESTRICT"))
    offset: Mapped[int]
    length: Mapped[int]


class UploadPinRow(Base):
    """An object that the plan of an open upload promises; it cannot be deleted before the upload ends."""

    __tablename__ = "upload_pins"
    __table_args__ = (Index(None, "object_id"), Index(None, "expires_at"))

    upload_id: Mapped[str] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("objects.id", ondelete="RESTRICT"), primary_key=True)
    expires_at: Mapped[datetime]


class StorageRow(Base):
    """Where a team's storage lies, once per digest that the team has. `team` is that of the object.

    What a team has is found by that index, so that nothing of it takes longer because another team has it too.
    """

    __tablename__ = "storages"
    __table_args__ = (Index(None, "object_id"), Index(None, "team", "digest"))

    digest: Mapped[str] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("objects.id", ondelete="CASCADE"), primary_key=True)
    offset: Mapped[int]
    length: Mapped[int]
    team: Mapped[str] = mapped_column(server_default="")


class WriteIntentRow(Base):
    """A location that somebody may be writing to; committed before the first byte."""

    __tablename__ = "write_intents"
    __table_args__ = (Index(None, "expires_at"),)

    location: Mapped[str] = mapped_column(primary_key=True)
    team: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class DoomedRow(Base):
    """A location whose bytes go at `not_before` or later. Nothing revives it."""

    __tablename__ = "doomed"
    __table_args__ = (Index(None, "not_before"),)

    location: Mapped[str] = mapped_column(primary_key=True)
    not_before: Mapped[datetime]


class AliasRow(Base):
    """Where an alias points; nowhere once removed. The row stays, so that its revision never repeats."""

    __tablename__ = "aliases"
    __table_args__ = (
        ForeignKeyConstraint(["model_id", "number"], ["versions.model_id", "versions.number"]),
        Index(None, "model_id", "number"),
    )

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    name: Mapped[Name] = mapped_column(primary_key=True)
    number: Mapped[int | None]
    revision: Mapped[int]
    updated_at: Mapped[datetime]
    updated_by: Mapped[str]


class AliasMoveRow(Base):
    """One move of an alias: who, when, from, to, why."""

    __tablename__ = "alias_moves"

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    name: Mapped[Name] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    from_number: Mapped[int | None]
    to_number: Mapped[int | None]
    moved_at: Mapped[datetime]
    moved_by: Mapped[str]
    reason: Mapped[str]


class IdempotencyKeyRow(Base):
    """A push by key: running until `lease_until` while `number` is null, finished and kept until `expires_at` after."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "expires_at"),)

    caller: Mapped[str] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str | None]
    number: Mapped[int | None]
    lease_until: Mapped[datetime]
    expires_at: Mapped[datetime]


class LeaseRow(Base):
    """Who does a job that only one may do at a time, until when."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    until: Mapped[datetime]
