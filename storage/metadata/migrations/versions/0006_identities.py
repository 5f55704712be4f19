"""Who users are elsewhere: bindings to issuers' subjects, what followed from groups, on whose word a token was made."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "identities",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("use", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identities"),
        sa.UniqueConstraint("issuer", "subject", name="uq_identities_issuer_subject"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_identities_user_id"),
    )
    op.create_index("ix_identities_user_id", "identities", ["user_id"])
    op.add_column("users", sa.Column("administrator_by_group", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("members", sa.Column("by_group", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("tokens", sa.Column("kind", sa.Text(), nullable=False, server_default="made"))
    op.add_column("tokens", sa.Column("issuer", sa.Text(), nullable=True))
    op.add_column("tokens", sa.Column("subject", sa.Text(), nullable=True))
    op.create_index("ix_tokens_kind_expires_at", "tokens", ["kind", "expires_at"])
    op.create_index("ix_tokens_user_id_expires_at", "tokens", ["user_id", "expires_at"])
