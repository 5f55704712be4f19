"""Counts of marks in their key on PostgreSQL, so that a search reads no table; SQLite keeps whole rows there."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "ALTER TABLE architecture_marks DROP CONSTRAINT pk_architecture_marks, "
            "ADD CONSTRAINT pk_architecture_marks PRIMARY KEY (mark, architecture_id) INCLUDE (count)"
        )
