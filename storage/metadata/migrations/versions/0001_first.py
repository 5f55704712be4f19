"""The first schema."""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "doomed",
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.PrimaryKeyConstraint("location", name="pk_doomed"),
    )
    op.create_index("ix_doomed_not_before", "doomed", ["not_before"])
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("caller", "team", "model", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "manifests",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("compressed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_manifests"),
    )
    op.create_table(
        "models",
        sa.Column("id", ID, nullable=False),
        sa.Column("team", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("version_counter", sa.BigInteger(), nullable=False),
        sa.Column("version_count", sa.BigInteger(), nullable=False),
        sa.Column("latest", sa.BigInteger(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("team", "name", name="uq_models_team_name"),
    )
    op.create_index("ix_models_created_at_id", "models", ["created_at", "id"])
    op.create_index("ix_models_updated_at_id", "models", ["updated_at", "id"])
    op.create_table(
        "objects",
        sa.Column("id", ID, nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_objects"),
        sa.UniqueConstraint("location", name="uq_objects_location"),
        sa.UniqueConstraint("team", "sha256", name="uq_objects_team_sha256"),
    )
    op.create_table(
        "registry",
        sa.Column("registry_id", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("registry_id", name="pk_registry"),
    )
    op.create_table(
        "write_intents",
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("location", name="pk_write_intents"),
    )
    op.create_index("ix_write_intents_expires_at", "write_intents", ["expires_at"])
    op.create_table(
        "alias_moves",
        sa.Column("model_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("from_number", sa.BigInteger(), nullable=True),
        sa.Column("to_number", sa.BigInteger(), nullable=True),
        sa.Column("moved_at", TIME, nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_alias_moves_model_id"),
        sa.PrimaryKeyConstraint("model_id", "name", "revision", name="pk_alias_moves"),
    )
    op.create_table(
        "model_tags",
        sa.Column("model_id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("value_start", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_model_tags_model_id"),
        sa.PrimaryKeyConstraint("model_id", "key", name="pk_model_tags"),
    )
    op.create_index("ix_model_tags_key_value_start_model_id", "model_tags", ["key", "value_start", "model_id"])
    op.create_table(
        "storages",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("object_id", ID, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["object_id"], ["objects.id"], name="fk_storages_object_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", "object_id", name="pk_storages"),
    )
    op.create_index("ix_storages_object_id", "storages", ["object_id"])
    op.create_table(
        "upload_pins",
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("object_id", ID, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["object_id"], ["objects.id"], name="fk_upload_pins_object_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("upload_id", "object_id", name="pk_upload_pins"),
    )
    op.create_index("ix_upload_pins_expires_at", "upload_pins", ["expires_at"])
    op.create_index("ix_upload_pins_object_id", "upload_pins", ["object_id"])
    op.create_table(
        "versions",
        sa.Column("id", ID, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("builder", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("wrappers", sa.JSON(), nullable=False),
        sa.Column("base", sa.Text(), nullable=True),
        sa.Column("base_id", ID, nullable=True),
        sa.Column("weights", sa.JSON(), nullable=False),
        sa.Column("weights_problem", sa.Text(), nullable=True),
        sa.Column("notices", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.Column("purged_at", TIME, nullable=True),
        sa.Column("purged_by", sa.Text(), nullable=True),
        sa.Column("purge_reason", sa.Text(), nullable=True),
        sa.Column("quarantined_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["base_id"], ["versions.id"], name="fk_versions_base_id"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_versions_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("model_id", "number", name="uq_versions_model_id_number"),
    )
    op.create_index("ix_versions_base_id", "versions", ["base_id"])
    op.create_index(
        "ix_versions_live",
        "versions",
        ["model_id", "number"],
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("ix_versions_model_id_created_at_number", "versions", ["model_id", "created_at", "number"])
    op.create_table(
        "aliases",
        sa.Column("model_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id", "number"], ["versions.model_id", "versions.number"], name="fk_aliases_model_id_number"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_aliases_model_id"),
        sa.PrimaryKeyConstraint("model_id", "name", name="pk_aliases"),
    )
    op.create_index("ix_aliases_model_id_number", "aliases", ["model_id", "number"])
    op.create_table(
        "annotation_changes",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", TIME, nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("changes", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_annotation_changes_version_id"),
        sa.PrimaryKeyConstraint("version_id", "revision", name="pk_annotation_changes"),
    )
    op.create_table(
        "annotations",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("deprecated", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_annotations_version_id"),
        sa.PrimaryKeyConstraint("version_id", name="pk_annotations"),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", ID, nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("folded_digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("blake3", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("globals", sa.JSON(), nullable=False),
        sa.Column("manifest_digest", sa.Text(), nullable=True),
        sa.Column("tensor_count", sa.BigInteger(), nullable=False),
        sa.Column("parameter_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["manifest_digest"], ["manifests.digest"], name="fk_artifacts_manifest_digest", ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_artifacts_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
        sa.UniqueConstraint("version_id", "folded_digest", name="uq_artifacts_version_id_folded_digest"),
    )
    op.create_index("ix_artifacts_manifest_digest", "artifacts", ["manifest_digest"])
    op.create_index("ix_artifacts_sha256_version_id", "artifacts", ["sha256", "version_id"])
    op.create_table(
        "metrics",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_metrics_version_id"),
        sa.PrimaryKeyConstraint("version_id", "name", name="pk_metrics"),
    )
    op.create_index("ix_metrics_model_id_name_value_number", "metrics", ["model_id", "name", "value", "number"])
    op.create_table(
        "version_tags",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("value_start", sa.Text(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_version_tags_version_id"),
        sa.PrimaryKeyConstraint("version_id", "key", name="pk_version_tags"),
    )
    op.create_index(
        "ix_version_tags_model_id_key_value_start_version_id",
        "version_tags",
        ["model_id", "key", "value_start", "version_id"],
    )
    op.create_table(
        "extents",
        sa.Column("artifact_id", ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("object_id", ID, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name="fk_extents_artifact_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["object_id"], ["objects.id"], name="fk_extents_object_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("artifact_id", "position", name="pk_extents"),
    )
    op.create_index("ix_extents_object_id", "extents", ["object_id"])
    registry = sa.table("registry", sa.column("registry_id", sa.Text()), sa.column("created_at", TIME))
    op.execute(registry.insert().values(registry_id=secrets.token_hex(16), created_at=datetime.now(UTC)))
