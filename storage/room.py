"""The room that a push has in its team, looked at as its bytes come; the publishing transaction has the last word."""

from collections.abc import Collection

from registry.teams import TeamInfo
from storage.metadata.quotas import check_room


class Room:
    """What a push may bring, as the team was when it began; of a team before its first model, anything."""

    def __init__(self, team: TeamInfo | None) -> None:
        self._team = team
        self._taken_bytes = 0

    def check(self, sizes: Collection[int]) -> None:
        """Return when files of these sizes, in bytes, would fit; without any, when one more version would.

        Raises:
            QuotaExceededError: they would not.
        """
        if self._team is not None:
            check_room(self._team, sum(sizes), max(sizes, default=0))

    def take(self, more_bytes: int, file_bytes: int) -> None:
        """Return when the next bytes of a file still fit.

        Args:
            more_bytes: how many came.
            file_bytes: how many the file has with them.

        Raises:
            QuotaExceededError: they do not.
        """
        self._taken_bytes += more_bytes
        if self._team is not None:
            check_room(self._team, self._taken_bytes, file_bytes)
