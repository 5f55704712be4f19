"""How many classes and functions a file refers to, of which an artifact lists the first ones; unknown of older rows."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("artifacts", sa.Column("global_count", sa.BigInteger(), nullable=True))
