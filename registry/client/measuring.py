"""The client's methods that say what teams and models take in the blob store."""

from registry.client.connected import Connected
from registry.client.listing import iter_pages
from registry.client.results import Listing
from registry.client.transport import route
from registry.schema import Page
from registry.usage import ModelStorage, TeamStorage


class Measuring(Connected):
    """What versions would take as files, what they take, and what sharing saves."""

    def storage(self, team: str) -> TeamStorage:
        """Return what a team takes."""
        return self.connection.resolver.online().get(TeamStorage, route("teams", team, "storage"))

    def storage_by_model(self, team: str, *, limit: int | None = None) -> Listing[ModelStorage]:
        """Return what each model of a team takes, by name; deleted ones too, until they are purged."""
        path = route("teams", team, "storage", "models")
        return Listing(iter_pages(self.connection.resolver.online(), Page[ModelStorage], path, (), limit))
