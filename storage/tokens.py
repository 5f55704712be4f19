"""Tokens: who holds one, making them, ending them. The secret is told once; only its digest is kept."""

import base64
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.errors import (
    AuthenticationRequiredError,
    PermissionDeniedError,
    TokenNotFoundError,
    UserExistsError,
    WeighbridgeError,
)
from registry.names import check_name, check_team
from registry.schema import Page
from registry.teams import NewToken, Scope, TokenCreate, TokenInfo, WhoAmI
from storage.access import Action, Caller, Resource, may
from storage.admission import admit
from storage.metadata.records import Actor, KnownToken, Secret
from storage.stores import Stores

USE_NOTED_EVERY = timedelta(minutes=10)
FIRST_ADMINISTRATOR = "admin"
UNKNOWN_ACTOR = "unknown"
_PREFIX_BYTES = 10
_SECRET_BYTES = 32
_TOKEN = re.compile(r"(wb_[a-z2-7]{16})_[0-9a-f]{64}")
_UNKNOWN = (
    "The service does not know this token, or it was revoked or has expired. Make another and `weighbridge login`."
)

log = logging.getLogger("weighbridge.tokens")


def identify(stores: Stores, token: str, address: str | None = None, request_id: str | None = None) -> Caller:
    """Return who holds a token.

    Raises:
        AuthenticationRequiredError: nobody; it is unknown, revoked or expired, or its owner was disabled.
    """
    match = _TOKEN.fullmatch(token)
    known = stores.catalog.find_token(match[1]) if match else None
    # Compared also where there is none, so that time does not tell which prefixes there are.
    is_same = hmac.compare_digest(digest_of(token), known.digest if known else digest_of(""))
    if known is None or not is_same or not known.is_live:
        raise AuthenticationRequiredError(_UNKNOWN)
    note_use(stores, known)
    return caller_of(known, address, request_id)


def identify_at_once(
    stores: Stores, token: str, address: str | None = None, request_id: str | None = None
) -> Caller | None:
    """Return who holds a token, for whoever must not wait; None where `identify` has to say that, or something else."""
    match = _TOKEN.fullmatch(token)
    known = stores.catalog.find_token(match[1], at_once=True) if match else None
    if known is None or not hmac.compare_digest(digest_of(token), known.digest) or not known.is_live:
        return None
    return None if _is_use_due(known) else caller_of(known, address, request_id)


def note_failed_login(
    stores: Stores, token: str, address: str | None, request_id: str | None, left_out: int = 0
) -> None:
    """Put into the audit that somebody came with a token that is none; their request is refused in any case.

    Args:
        stores: of the installation.
        token: what they sent. Only how it begins is kept, if it looks like a token.
        address: where the request came from.
        request_id: of the request.
        left_out: how many of their failures before this one are not in the audit.
    """
    match = _TOKEN.fullmatch(token)
    by = Actor(match[1] if match else UNKNOWN_ACTOR, None, address, request_id)
    detail: dict[str, Any] = {"left_out": left_out} if left_out else {}
    try:
        stores.catalog.note(by, "login.fail", **detail)
    except WeighbridgeError as error:
        log.warning("A failed login from %s could not be noted: %s", address, error)


def recheck(stores: Stores, caller: Caller) -> Caller:
    """Return the caller with the rights that they have by now; for work that takes long.

    Raises:
        AuthenticationRequiredError: their token was revoked meanwhile, or has expired.
    """
    if caller.token is None:
        return caller
    known = stores.catalog.find_token(caller.token)
    if known is None or not known.is_live:
        raise AuthenticationRequiredError(_UNKNOWN)
    return caller_of(known, caller.address, caller.request_id)


def who_am_i(stores: Stores, caller: Caller) -> WhoAmI:
    """Return who the service takes the caller for."""
    known = stores.catalog.find_token(caller.token) if caller.token is not None else None
    return WhoAmI(
        name=caller.name,
        administrator=caller.is_administrator,
        roles=dict(sorted(caller.roles.items())),
        scopes=sorted(caller.scopes),
        targets=sorted(caller.targets),
        token=caller.token,
        expires_at=known.expires_at if known else None,
    )


def create_token(stores: Stores, caller: Caller, create: TokenCreate) -> NewToken:
    """Make a token: the caller's own, or another user's where the caller is an administrator.

    A token can do no more than the one that made it. One of the caller's own also ends when that one does.

    Raises:
        InvalidNameError: a target is no team or model.
        PermissionDeniedError: it would be able to do more; or it is for somebody else.
        UserNotFoundError: there is no such user.
    """
    user = create.user or caller.name
    if user != caller.name:
        admit(stores, caller, Action.ADMINISTER)
    for target in create.targets:
        check_target(target)
    _check_no_more(caller, create)
    own = caller.token if user == caller.name else None
    known = stores.catalog.find_token(own) if own is not None else None
    wished = None if create.expires_in_days is None else _now() + timedelta(days=create.expires_in_days)
    ends = [moment for moment in (wished, known.expires_at if known else None) if moment is not None]
    return issue_token(stores, caller.actor, user, create, min(ends, default=None))


def issue_token(stores: Stores, by: Actor, user: str, create: TokenCreate, expires_at: datetime | None) -> NewToken:
    """Make a token for a user; who may do that was decided by whoever calls this.

    Args:
        stores: of the installation.
        by: who makes it.
        user: whose it is.
        create: what it is good for.
        expires_at: when it ends.

    Raises:
        UserNotFoundError: there is no such user.
    """
    prefix, token = mint()
    info = stores.catalog.create_token(user, create, Secret(prefix, digest_of(token), expires_at), by)
    return NewToken(**info.model_dump(), token=token)


def mint() -> tuple[str, str]:
    """Return how a new token begins, and the whole of it."""
    prefix = "wb_" + base64.b32encode(secrets.token_bytes(_PREFIX_BYTES)).decode().lower()
    return prefix, f"{prefix}_{secrets.token_hex(_SECRET_BYTES)}"


def make_first_administrator(stores: Stores) -> NewToken | None:
    """Make the user `admin` with a token, in an installation that nobody administers yet; else return None."""
    if stores.catalog.has_administrator():
        return None
    by = Actor("installation")
    try:
        stores.catalog.create_user(FIRST_ADMINISTRATOR, is_administrator=True, by=by)
    except UserExistsError:
        return None  # another process started at the same time, or somebody shut them out
    everything = TokenCreate(name="the first token", scopes=list(Scope), expires_in_days=None)
    return issue_token(stores, by, FIRST_ADMINISTRATOR, everything, None)


def list_tokens(
    stores: Stores, caller: Caller, user: str | None, cursor: str | None = None, limit: int = 100
) -> Page[TokenInfo]:
    """Return a page of the caller's tokens; of another user's, or of everybody's (`*`), for administrators.

    Only those that can do no more than the caller's own: whoever finds a narrow token learns of no other.

    Raises:
        PermissionDeniedError: they are somebody else's.
        InvalidRequestError: a bad limit. InvalidCursorError: the cursor is not of this list.
    """
    wanted = user or caller.name
    if wanted != caller.name:
        admit(stores, caller, Action.ADMINISTER)
    page = stores.catalog.list_tokens(None if wanted == "*" else wanted, cursor, limit)
    shown = [each for each in page.items if _reaches(caller, each.prefix, each.scopes, each.targets)]
    return Page[TokenInfo](items=shown, cursor=page.cursor)


def revoke_token(stores: Stores, caller: Caller, prefix: str) -> TokenInfo:
    """End one of the caller's tokens that can do no more than theirs, or anybody's for administrators.

    It is refused from the next request on, and so are those that were made with it.

    Raises:
        TokenNotFoundError: there is none, it is somebody else's, or it can do more.
    """
    known = stores.catalog.find_token(prefix)
    own = known is not None and known.user == caller.name and _reaches(caller, prefix, known.scopes, known.targets)
    if known is None or not (own or may(caller, Action.ADMINISTER, Resource())):
        raise TokenNotFoundError(f"There is no token {prefix} that yours may end. `weighbridge token list` shows them.")
    return stores.catalog.revoke_token(prefix, caller.actor)


def _reaches(caller: Caller, prefix: str, scopes: Collection[Scope], targets: Collection[str]) -> bool:
    """Return whether a token is the caller's very one, or can do no more than that."""
    if prefix == caller.token or may(caller, Action.ADMINISTER, Resource()):
        return True
    covered = bool(targets) and all(_is_covered(caller, each) for each in targets)
    return caller.scopes.issuperset(scopes) and (not caller.targets or covered)


def _is_covered(caller: Caller, target: str) -> bool:
    return target in caller.targets or target.partition("/")[0] in caller.targets


def _check_no_more(caller: Caller, create: TokenCreate) -> None:
    beyond = sorted(set(create.scopes) - caller.scopes)
    if beyond:
        raise PermissionDeniedError(f"Your token has no scope {', '.join(beyond)}, so it cannot make one that has.")
    covered = all(_is_covered(caller, each) for each in create.targets)
    if caller.targets and not (create.targets and covered):
        raise PermissionDeniedError(
            f"Your token is good for {', '.join(sorted(caller.targets))}, so it cannot make one for more. Name targets."
        )


def check_target(target: str) -> None:
    """Return when a token may be good for a team or model of that name.

    Raises:
        InvalidNameError: none may be called that.
    """
    team, slash, model = target.partition("/")
    check_team(team)
    if slash:
        check_name(model, "model name")


def caller_of(known: KnownToken, address: str | None, request_id: str | None) -> Caller:
    """Return the holder of a token."""
    return Caller(
        name=known.user,
        is_administrator=known.is_administrator,
        roles=known.roles,
        scopes=known.scopes,
        targets=known.targets,
        token=known.prefix,
        address=address,
        request_id=request_id,
    )


def note_use(stores: Stores, known: KnownToken) -> None:
    """Keep now and then that a token is in use; a request never fails for it."""
    if not _is_use_due(known):
        return
    try:
        stores.catalog.note_token_used(known.prefix)
    except WeighbridgeError as error:
        log.warning("The use of %s could not be noted: %s", known.prefix, error)


def _is_use_due(known: KnownToken) -> bool:
    return known.last_used_at is None or _now() - known.last_used_at >= USE_NOTED_EVERY


def digest_of(token: str) -> str:
    """Return what is kept of a token's secret."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def _now() -> datetime:
    return datetime.now(UTC)
