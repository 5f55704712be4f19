"""The catalog: every query and change of rows, as methods that are one short transaction each."""

from typing import Self

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from storage.metadata.aliases import Aliases
from storage.metadata.annotations import AnnotationRecords
from storage.metadata.architectures import Architectures
from storage.metadata.artifacts import Artifacts
from storage.metadata.audit import AuditRecords
from storage.metadata.checking import Checking
from storage.metadata.dump import Dumps
from storage.metadata.garbage import Garbage
from storage.metadata.identities import Identities
from storage.metadata.migrate import find_revision, head_revision
from storage.metadata.models import Models
from storage.metadata.overrides import Overrides
from storage.metadata.publishing import Publishing
from storage.metadata.pushes import Pushes
from storage.metadata.rebuilding import Rebuilding
from storage.metadata.recording import Recording
from storage.metadata.relatives import Relatives
from storage.metadata.removal import Removal
from storage.metadata.repacking import Repacking
from storage.metadata.reuse import Reuse
from storage.metadata.session import Database, reads
from storage.metadata.sign_ins import SignIns
from storage.metadata.tables import RegistryRow
from storage.metadata.teams import Teams
from storage.metadata.tokens import Tokens
from storage.metadata.uploads import Uploads
from storage.metadata.usage import Usage
from storage.metadata.users import Users
from storage.metadata.versions import Versions


class Catalog(
    Models,
    Versions,
    Removal,
    AnnotationRecords,
    Aliases,
    Pushes,
    Uploads,
    Reuse,
    Publishing,
    Artifacts,
    Architectures,
    Relatives,
    Garbage,
    Checking,
    Recording,
    Rebuilding,
    Repacking,
    Dumps,
    Teams,
    Usage,
    Users,
    Tokens,
    Identities,
    SignIns,
    Overrides,
    AuditRecords,
):
    """What the registry knows. Every method may be called from several threads at once.

    Methods return schema objects and records, never rows. Beside the errors that each names, all raise
    `CatalogUnavailableError` when the database does not answer and `StorageFullError` when its disk is full.
    """

    @classmethod
    def open(cls, url: str, *, pool_size: int = 10) -> Self:
        """Return the catalog at `sqlite:///path` or `postgresql+psycopg://…`. It does not migrate, nor connect yet.

        Raises:
            ConfigurationError: the URL is of no such kind, or its driver is not installed.
        """
        return cls(Database(url, pool_size))

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

    @property
    def answers_at_once(self) -> bool:
        """Whether it is worth asking with `at_once`, in a thread that must not wait."""
        return self.database.answers_at_once

    @reads
    def check(self, session: Session) -> None:
        """Return when the database answers."""
        session.execute(text("SELECT 1"))

    @reads
    def registry_id(self, session: Session) -> str:
        """Return the id that the first migration gave this registry; its blob store carries the same."""
        return session.scalars(select(RegistryRow.registry_id)).one()

    @reads
    def schema_revision(self, session: Session) -> str | None:
        """Return the revision of the schema, None before the first migration."""
        return find_revision(session.connection())

    def needs_migration(self) -> bool:
        """Return whether `storage.metadata.migrate.upgrade` has something to do."""
        return self.schema_revision() != head_revision()
