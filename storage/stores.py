"""The parts that every use case works on, bound together once at start."""

from dataclasses import dataclass, field
from datetime import timedelta

from registry.schema import Limits
from storage.blobs.base import BlobStore
from storage.metadata.catalog import Catalog
from storage.midstates import Midstates
from storage.scanner import Scanner
from storage.uploads.prefixes import Prefixes

DEFAULT_LIMITS = Limits(max_artifact_bytes=1 << 40, max_artifacts=1_000, max_metadata_bytes=1 << 20, max_page=1_000)


@dataclass(frozen=True, slots=True)
class Stores:
    """The catalog, the blob store, the scanner of weight files and the rules of this installation.

    Attributes:
        limits: what a push or a page may hold at most.
        allow_code: whether artifacts of trust `code` are taken.
        grace: how long deleted versions can be restored before the collector purges them.
        direct: whether clients can reach the blob store themselves, where it gives URLs.
        prefixes: digests of what is being sent through this process.
        midstates: digests of the beginnings of objects that this process has read.
    """

    catalog: Catalog
    blobs: BlobStore
    scanner: Scanner
    limits: Limits = DEFAULT_LIMITS
    allow_code: bool = True
    grace: timedelta = timedelta(days=30)
    direct: bool = True
    prefixes: Prefixes = field(default_factory=Prefixes)
    midstates: Midstates = field(default_factory=Midstates)

    @property
    def is_direct(self) -> bool:
        """Whether bytes may go straight between clients and the blob store."""
        return self.direct and self.blobs.can_presign

    def close(self) -> None:
        """Let go of connections and worker processes."""
        self.scanner.close()
        self.catalog.close()
