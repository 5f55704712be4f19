"""What a version says of its module: preprocessing, recipe, origin."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("versions", sa.Column("pretrained_cfg", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("versions", sa.Column("recipe", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("versions", sa.Column("origin", sa.JSON(none_as_null=True), nullable=True))
