"""The room that a team has: how much of it a push takes, and how a purge gives it back."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from registry.errors import QuotaExceededError
from registry.teams import TeamInfo
from storage.metadata.team_tables import TeamRow
from storage.metadata.teams import team_info

_WHOM_TO_ASK = "Purge versions that nobody needs, or ask an administrator of this installation for more."


def take_room(session: Session, team: str, sizes: Sequence[int]) -> None:
    """Count a new version with files of these sizes, in bytes. Comes last: the team's row is locked from here on.

    Raises:
        QuotaExceededError: the team has no room for it.
    """
    locked = select(TeamRow).where(TeamRow.name == team).with_for_update(key_share=True)
    row = session.scalars(locked.execution_options(populate_existing=True)).one()
    check_room(team_info(row), sum(sizes), max(sizes, default=0))
    row.stored_bytes += sum(sizes)
    row.version_count += 1


def give_room(session: Session, team: str, size_bytes: int) -> None:
    """Count a version no more. Comes last: the team's row is locked from here on."""
    less = {"stored_bytes": TeamRow.stored_bytes - size_bytes, "version_count": TeamRow.version_count - 1}
    counted = update(TeamRow).where(TeamRow.name == team).values(less)
    session.execute(counted.execution_options(synchronize_session=False))


def check_room(team: TeamInfo, size_bytes: int, largest_bytes: int) -> None:
    """Return when a team has room for one more version.

    Args:
        team: its limits, and what is used.
        size_bytes: of all files, as far as known.
        largest_bytes: of the largest file, as far as known.

    Raises:
        QuotaExceededError: it has not; the detail says what is used, what the limit is and whom to ask.
    """
    if team.max_artifact_bytes is not None and largest_bytes > team.max_artifact_bytes:
        raise QuotaExceededError(
            f"A file of {team.name} may have {team.max_artifact_bytes:,} bytes, this one has {largest_bytes:,} or "
            "more. Ask an administrator of this installation for more.",
            limit=team.max_artifact_bytes,
        )
    if team.max_versions is not None and team.version_count >= team.max_versions:
        raise QuotaExceededError(
            f"{team.name} has {team.version_count:,} versions and may have {team.max_versions:,}; deleted ones count "
            f"until they are purged. {_WHOM_TO_ASK}",
            used=team.version_count,
            limit=team.max_versions,
        )
    if team.max_bytes is not None and team.stored_bytes + size_bytes > team.max_bytes:
        raise QuotaExceededError(
            f"{team.name} uses {team.stored_bytes:,} bytes and may use {team.max_bytes:,}; this push has "
            f"{size_bytes:,} or more, and deleted versions count until they are purged. {_WHOM_TO_ASK}",
            used=team.stored_bytes,
            limit=team.max_bytes,
        )
