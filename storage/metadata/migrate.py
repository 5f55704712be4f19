"""Bring a database to the schema of this version. There is no way down: restore the copy made before.

Revisions are written by hand in `migrations/versions/`; a test compares where they lead with `tables.py`, on both
databases, and prints what differs.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from registry.errors import ConfigurationError
from storage.metadata.session import Database

_SCRIPTS = Path(__file__).with_name("migrations")
_ADVISORY_LOCK = 0x5765696768  # "Weigh"; any number will do that nobody else takes


def upgrade(url: str) -> None:
    """Migrate to the newest revision. Whoever comes second waits and finds nothing to do.

    Raises:
        ConfigurationError: a newer version of Weighbridge migrated it already.
        CatalogUnavailableError: the database did not answer.
    """
    database = Database(url, pool_size=1)
    try:
        database.write(lambda session: _upgrade(session.connection()))
    finally:
        database.close()


def head_revision() -> str:
    """Return the revision that this version of the code needs."""
    return _scripts().get_current_head() or ""


def find_revision(connection: Connection) -> str | None:
    """Return the revision of a database, None for one that was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_SCRIPTS))


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    revision = find_revision(connection)
    if revision is not None and revision not in {each.revision for each in _scripts().walk_revisions()}:
        raise ConfigurationError(
            f"The database has the schema {revision} of a newer Weighbridge. Run that, or restore an older copy."
        )
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
