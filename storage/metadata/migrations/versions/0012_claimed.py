"""Tiles of files on their way of which nothing else says what they shall be."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("upload_files", sa.Column("claimed", sa.LargeBinary(), nullable=True))
