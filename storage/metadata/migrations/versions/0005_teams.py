"""Teams, users, tokens, and an audit that can only grow. Teams that have models already get the default rules."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("models", sa.Column("visibility", sa.Text(), nullable=False, server_default="team"))
    deleted = sa.text("deleted_at IS NOT NULL")
    unpurged = sa.text("deleted_at IS NOT NULL AND purged_at IS NULL")
    op.create_index("ix_models_deleted", "models", ["deleted_at"], postgresql_where=deleted, sqlite_where=deleted)
    op.create_index(
        "ix_versions_unpurged", "versions", ["deleted_at"], postgresql_where=unpurged, sqlite_where=unpurged
    )
    _create_teams()
    _create_users()
    _create_tokens()
    _create_overrides()
    _create_audit()


def _create_teams() -> None:
    op.create_table(
        "teams",
        sa.Column("name", NAME, nullable=False),
        sa.Column("protected_aliases", sa.JSON(), nullable=False),
        sa.Column("code_pushed_by", sa.Text(), nullable=True),
        sa.Column("code_opened_by", sa.Text(), nullable=False),
        sa.Column("unsafe", sa.Text(), nullable=False),
        sa.Column("max_bytes", sa.BigInteger(), nullable=True),
        sa.Column("max_versions", sa.BigInteger(), nullable=True),
        sa.Column("max_artifact_bytes", sa.BigInteger(), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("version_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_teams"),
    )
    op.execute(_TEAMS_OF_MODELS)


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("is_administrator", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("disabled_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
    )
    op.create_table(
        "members",
        sa.Column("team", NAME, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("team", "user_id", name="pk_members"),
        sa.ForeignKeyConstraint(["team"], ["teams.name"], name="fk_members_team"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_members_user_id"),
    )
    op.create_index("ix_members_user_id", "members", ["user_id"])


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", ID, nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("prefix", name="uq_tokens_prefix"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id"),
    )
    op.create_index("ix_tokens_user_id_id", "tokens", ["user_id", "id"])
    op.create_index("ix_tokens_made_by", "tokens", ["made_by"])


def _create_overrides() -> None:
    op.create_table(
        "overrides",
        sa.Column("team", NAME, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("team", "sha256", name="pk_overrides"),
        sa.ForeignKeyConstraint(["team"], ["teams.name"], name="fk_overrides_team"),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("team", NAME, nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_team_id", "audit", ["team", "id"])
    op.create_index("ix_audit_actor_id", "audit", ["actor", "id"])
    op.create_index("ix_audit_at_id", "audit", ["at", "id"])
    for statement in _GROWS_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


_TEAMS_OF_MODELS = """
INSERT INTO teams (
    name, protected_aliases, code_pushed_by, code_opened_by, unsafe, stored_bytes, version_count, created_at, created_by
)
SELECT
    models.team, '["prod"]', 'writer', 'reader', 'refuse', coalesce(sum(kept.size_bytes), 0), count(kept.id),
    min(models.created_at), min(models.created_by)
FROM models LEFT JOIN versions AS kept ON kept.model_id = models.id AND kept.purged_at IS NULL
GROUP BY models.team
"""
_REFUSE_IN_POSTGRESQL = """
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit can only grow'; END $$
"""
_GUARD_IN_POSTGRESQL = """
CREATE TRIGGER audit_grows_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()
"""
_GUARD_IN_SQLITE = """
CREATE TRIGGER audit_no_{verb} BEFORE {verb} ON audit BEGIN SELECT RAISE(ABORT, 'the audit can only grow'); END
"""
_GROWS_ONLY = {
    "sqlite": [_GUARD_IN_SQLITE.format(verb=verb) for verb in ("update", "delete")],
    "postgresql": [_REFUSE_IN_POSTGRESQL, _GUARD_IN_POSTGRESQL],
}
