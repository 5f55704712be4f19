"""Teams and users: who is in which team, as what, and what a team allows."""

from registry.errors import ConflictError, UserExistsError
from registry.names import check_team, check_user
from registry.schema import Page
from registry.teams import MemberInfo, OverrideInfo, QuotaUpdate, Role, TeamInfo, TeamUpdate, UserInfo, UserUpdate
from storage.access import Action, Caller
from storage.admission import admit, sight_of
from storage.stores import Stores


def create_team(stores: Stores, caller: Caller, team: str) -> TeamInfo:
    """Make a team before its first model.

    Raises:
        InvalidNameError: no team may be called that.
        PermissionDeniedError: the caller is no administrator.
        TeamExistsError: it is there.
    """
    check_team(team)
    admit(stores, caller, Action.ADMINISTER)
    return stores.catalog.create_team(team, caller.actor)


def get_team(stores: Stores, caller: Caller, team: str) -> TeamInfo:
    """Return a team's rules, and the caller's role in it.

    Raises:
        TeamNotFoundError: there is none, or the caller is no member.
    """
    admit(stores, caller, Action.SEE_TEAM, team)
    return _with_role(stores.catalog.get_team(team), caller)


def list_teams(stores: Stores, caller: Caller, cursor: str | None = None, limit: int = 100) -> Page[TeamInfo]:
    """Return a page of the caller's teams, or of all for administrators.

    Raises:
        PermissionDeniedError: their token is not made for reading.
        InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
    """
    sight = sight_of(caller)
    names = None if sight.everything else sight.teams
    if caller.targets:
        targets = frozenset(each for each in caller.targets if "/" not in each)
        names = targets if names is None else names & targets
    page = stores.catalog.list_teams(names, cursor, limit)
    return Page[TeamInfo](items=[_with_role(each, caller) for each in page.items], cursor=page.cursor)


def update_team(stores: Stores, caller: Caller, team: str, update: TeamUpdate) -> TeamInfo:
    """Change a team's rules; what is left out stays.

    Raises:
        TeamNotFoundError, PermissionDeniedError: the caller may not see it, or is no admin of it.
    """
    admit(stores, caller, Action.MANAGE_TEAM, team)
    return _with_role(stores.catalog.update_team(team, update, caller.actor), caller)


def update_quota(stores: Stores, caller: Caller, team: str, update: QuotaUpdate) -> TeamInfo:
    """Change a team's limits; what is left out stays.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        TeamNotFoundError: there is no such team.
    """
    admit(stores, caller, Action.ADMINISTER)
    return _with_role(stores.catalog.update_quota(team, update, caller.actor), caller)


def list_members(
    stores: Stores, caller: Caller, team: str, cursor: str | None = None, limit: int = 100
) -> Page[MemberInfo]:
    """Return a page of a team's members, by name.

    Raises:
        TeamNotFoundError: there is none, or the caller is no member.
        InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
    """
    admit(stores, caller, Action.SEE_TEAM, team)
    return stores.catalog.list_members(team, cursor, limit)


def set_member(stores: Stores, caller: Caller, team: str, user: str, role: Role) -> MemberInfo:
    """Give a user a role in a team.

    Raises:
        TeamNotFoundError, PermissionDeniedError: the caller may not see it, or is no admin of it.
        UserNotFoundError: there is no such user.
    """
    admit(stores, caller, Action.MANAGE_TEAM, team)
    return stores.catalog.set_member(team, user, role, caller.actor)


def remove_member(stores: Stores, caller: Caller, team: str, user: str) -> None:
    """Take a user's role in a team away; from the next request on they have none.

    Raises:
        TeamNotFoundError, PermissionDeniedError: the caller may not see it, or is no admin of it.
        UserNotFoundError: they are no member.
    """
    admit(stores, caller, Action.MANAGE_TEAM, team)
    stores.catalog.remove_member(team, user, caller.actor)


def list_overrides(
    stores: Stores, caller: Caller, team: str, cursor: str | None = None, limit: int = 100
) -> Page[OverrideInfo]:
    """Return a page of what admins of a team may download although it would do harm, the newest first.

    Raises:
        TeamNotFoundError, PermissionDeniedError: the caller may not see it, or is no admin of it.
        InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
    """
    admit(stores, caller, Action.MANAGE_TEAM, team)
    return stores.catalog.list_overrides(team, cursor, limit)


def set_override(stores: Stores, caller: Caller, team: str, sha256: str, reason: str) -> OverrideInfo:
    """Let admins of a team download bytes that would do harm; what they are stays in quarantine for all others.

    Raises:
        TeamNotFoundError, PermissionDeniedError: the caller may not see it, or is no admin of it.
    """
    admit(stores, caller, Action.MANAGE_TEAM, team)
    return stores.catalog.set_override(team, sha256, reason, caller.actor)


def remove_override(stores: Stores, caller: Caller, team: str, sha256: str) -> None:
    """Take an override back.

    Raises:
        TeamNotFoundError, PermissionDeniedError: the caller may not see it, or is no admin of it.
        NotFoundError: there is none.
    """
    admit(stores, caller, Action.MANAGE_TEAM, team)
    stores.catalog.remove_override(team, sha256, caller.actor)


def create_user(stores: Stores, caller: Caller, name: str, *, administrator: bool = False) -> UserInfo:
    """Make a user, who can do nothing before they have a role or are an administrator.

    Raises:
        InvalidNameError: no user may be called that.
        PermissionDeniedError: the caller is no administrator.
        UserExistsError: there is one.
    """
    check_user(name)
    admit(stores, caller, Action.ADMINISTER)
    return stores.catalog.create_user(name, is_administrator=administrator, by=caller.actor)


def make_administrator(stores: Stores, caller: Caller, name: str) -> UserInfo:
    """Let a user administer the installation, made where there is none yet, let in again where they were shut out.

    Raises:
        InvalidNameError: no user may be called that.
        PermissionDeniedError: the caller is no administrator.
    """
    try:
        return create_user(stores, caller, name, administrator=True)
    except UserExistsError:
        return update_user(stores, caller, name, UserUpdate(administrator=True, disabled=False))


def get_user(stores: Stores, caller: Caller, name: str) -> UserInfo:
    """Return a user.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        UserNotFoundError: there is none.
    """
    admit(stores, caller, Action.ADMINISTER)
    return stores.catalog.get_user(name)


def list_users(stores: Stores, caller: Caller, cursor: str | None = None, limit: int = 100) -> Page[UserInfo]:
    """Return a page of all users, by name.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
    """
    admit(stores, caller, Action.ADMINISTER)
    return stores.catalog.list_users(cursor, limit)


def update_user(stores: Stores, caller: Caller, name: str, update: UserUpdate) -> UserInfo:
    """Make a user an administrator or not, shut them out or let them in again.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        UserNotFoundError: there is none.
        ConflictError: it is the caller: then nobody might be left who could undo it.
    """
    admit(stores, caller, Action.ADMINISTER)
    if name == caller.name and (update.administrator is False or update.disabled):
        raise ConflictError("You cannot shut yourself out. Let another administrator do it.")
    return stores.catalog.update_user(name, update, caller.actor)


def _with_role(team: TeamInfo, caller: Caller) -> TeamInfo:
    return team.model_copy(update={"role": caller.roles.get(team.name)})
