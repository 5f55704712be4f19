"""Objects of which a purge let go: whether the rest is worth writing anew is looked at by the collector."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("objects", sa.Column("shrunk_at", sa.DateTime(timezone=True), nullable=True))
    shrunk = sa.text("shrunk_at IS NOT NULL")
    op.create_index("ix_objects_shrunk", "objects", ["id"], postgresql_where=shrunk, sqlite_where=shrunk)
