"""Objects that are damaged or that a purge let go of, and which records are to be written: those of all versions."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("objects", sa.Column("damaged_at", TIME, nullable=True))
    op.add_column("objects", sa.Column("released_at", TIME, nullable=True))
    damaged = sa.text("damaged_at IS NOT NULL")
    op.create_index("ix_objects_damaged", "objects", ["damaged_at"], postgresql_where=damaged, sqlite_where=damaged)
    op.create_table(
        "records_due",
        sa.Column("model_id", ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "number", name="pk_records_due"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_records_due_model_id"),
    )
    op.create_index("ix_records_due_due_at", "records_due", ["due_at"])
    op.execute(f"INSERT INTO records_due (model_id, number, change, due_at) SELECT id, 0, 1, {_NOW} FROM models")  # noqa: S608 - a constant
    op.execute(_VERSIONS)


_NOW = "CURRENT_TIMESTAMP"
_VERSIONS = f"""
INSERT INTO records_due (model_id, number, change, due_at)
SELECT model_id, number, 1, {_NOW} FROM versions WHERE purged_at IS NULL
"""  # noqa: S608 - a constant
