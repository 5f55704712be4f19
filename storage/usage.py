"""What a team and its models take, for who belongs to it."""

from registry.schema import Page
from registry.usage import ModelStorage, TeamStorage
from storage.access import Action, Caller
from storage.admission import admit, sees_quarantine
from storage.stores import Stores


def measure_team(stores: Stores, caller: Caller, team: str) -> TeamStorage:
    """Return what a team's versions would take as files, and what is stored of them.

    Raises:
        TeamNotFoundError: there is none, or the caller is no member.
    """
    admit(stores, caller, Action.SEE_TEAM, team)
    return stores.catalog.measure_team(team)


def measure_models(
    stores: Stores, caller: Caller, team: str, cursor: str | None = None, limit: int = 100
) -> Page[ModelStorage]:
    """Return a page of a team's models with what each takes, by name. What is in quarantine counts for its admins only.

    Raises:
        TeamNotFoundError: there is none, or the caller is no member.
        InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
    """
    admit(stores, caller, Action.SEE_TEAM, team)
    shown = sees_quarantine(caller, team)
    return stores.catalog.measure_models(team, cursor, limit, include_quarantined=shown)
