"""The index over architectures, filled for the versions that are there."""

import sqlalchemy as sa
from alembic import op

from storage.metadata.architecture_backfill import fill_index

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "architectures",
        sa.Column("id", ID, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("weight_count", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_architectures"),
        sa.UniqueConstraint("digest", name="uq_architectures_digest"),
    )
    op.create_table(
        "architecture_marks",
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.Column("architecture_id", ID, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["architecture_id"],
            ["architectures.id"],
            name="fk_architecture_marks_architecture_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("mark", "architecture_id", name="pk_architecture_marks"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_architecture_marks_architecture_id", "architecture_marks", ["architecture_id"])
    op.create_table(
        "architecture_uses",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("architecture_id", ID, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("part", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_architecture_uses_version_id"),
        sa.ForeignKeyConstraint(
            ["architecture_id"],
            ["architectures.id"],
            name="fk_architecture_uses_architecture_id",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_architecture_uses_model_id"),
        sa.PrimaryKeyConstraint("version_id", "position", name="pk_architecture_uses"),
    )
    op.create_index(
        "ix_architecture_uses_architecture_id_model_id_version_id",
        "architecture_uses",
        ["architecture_id", "model_id", "version_id"],
    )
    fill_index(op.get_bind())
