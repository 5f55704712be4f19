"""The client's methods about files in quarantine: what the admins of a team may look into, and why."""

from registry.client.connected import Connected
from registry.client.listing import iter_pages
from registry.client.results import Listing
from registry.client.transport import route
from registry.errors import InvalidRequestError
from registry.names import check_team
from registry.schema import Page
from registry.teams import OverrideInfo, OverrideUpdate


class Quarantining(Connected):
    """What a team keeps in quarantine may be downloaded by its admins, bytes by bytes, for a recorded reason."""

    def overrides(self, team: str) -> Listing[OverrideInfo]:
        """Return what a team's admins may download although it would do harm, and why."""
        path = route("teams", check_team(team), "overrides")
        return Listing(iter_pages(self.connection.resolver.online(), Page[OverrideInfo], path, (), None))

    def override(self, team: str, sha256: str, *, reason: str) -> OverrideInfo:
        """Let a team's admins download bytes in quarantine (`sha256:…`); the reason is recorded.

        Raises:
            PermissionDeniedError: you are no admin of the team.
        """
        if not reason.strip():
            raise InvalidRequestError("Say why: the reason is recorded with the override.")
        path = route("teams", check_team(team), "overrides", sha256)
        return self.connection.resolver.online().call(OverrideInfo, "PUT", path, body=OverrideUpdate(reason=reason))

    def remove_override(self, team: str, sha256: str) -> None:
        """Take an override back.

        Raises:
            PermissionDeniedError: you are no admin of the team. NotFoundError: there is none.
        """
        self.connection.resolver.online().send("DELETE", route("teams", check_team(team), "overrides", sha256))
