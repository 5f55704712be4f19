"""Which versions of an export a service has already: by where they came from and what they hold, however long ago."""

from typing import Literal

from registry.client.connection import Connection
from registry.client.listing import list_versions
from registry.client.results import Version
from registry.errors import ModelNotFoundError
from registry.exporting.documents import ExportInfo, VersionDocument

REGISTRY = "registry"
REFERENCE = "reference"


class PresentVersions:
    """The versions of one model of the service that came from an export's registry, or are its very own.

    Attributes:
        is_there: whether the service has the model.
        is_deleted: whether it had, and somebody deleted it: making it again would end what can be restored.
        version_count: how many live versions it has.
    """

    def __init__(self, connection: Connection, model: str, info: ExportInfo, *, is_own_registry: bool) -> None:
        self._by_origin: dict[str, list[Version]] = {}
        self.is_there = True
        self.is_deleted = False
        self.version_count = 0
        try:
            for version in list_versions(connection, model, sort="number", limit=None, deleted=True):
                self.version_count += version.deleted_at is None
                details = version.origin.details if version.origin else {}
                if details.get(REGISTRY) == info.registry_id and REFERENCE in details:
                    self._by_origin.setdefault(details[REFERENCE], []).append(version)
                if is_own_registry:
                    self._by_origin.setdefault(version.reference, []).append(version)
        except ModelNotFoundError as error:
            self.is_there = False
            self.is_deleted = error.extra.get("deleted") is True

    def find(self, document: VersionDocument) -> tuple[Version, Literal["there", "deleted"]] | None:
        """Return the version that is this one, and whether it is live; a purged one is as good as none."""
        digests = {each.path: each.sha256 for each in document.files}
        same = [
            each
            for each in self._by_origin.get(document.reference, [])
            if each.purged_at is None and {file.path: file.sha256 for file in each.artifacts} == digests
        ]
        live = [each for each in same if each.deleted_at is None]
        if live:
            return live[0], "there"
        return (same[0], "deleted") if same else None

    def purged_numbers(self, document: VersionDocument) -> list[int]:
        """Return what came of earlier imports of this version and was purged since."""
        came = self._by_origin.get(document.reference, [])
        return [each.number for each in came if each.purged_at is not None]
