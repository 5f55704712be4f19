"""What pushes reuse: how objects are cut into tiles, storages found by team, and where the bytes of an upload lie."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("objects", sa.Column("tiles", sa.LargeBinary(), nullable=True))
    op.add_column("upload_files", sa.Column("extents", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("storages", sa.Column("team", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE storages SET team = (SELECT team FROM objects WHERE objects.id = storages.object_id)")
    op.create_index("ix_storages_team_digest", "storages", ["team", "digest"])
