"""Letting in on another service's word: bindings of its subjects to users, the JWTs of jobs, signing in."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from registry.errors import AuthenticationRequiredError, ConflictError
from registry.identities import IdentityCreate, IdentityInfo
from registry.names import check_user
from registry.teams import NewToken, Scope, TokenCreate
from storage.access import Action, Caller
from storage.admission import admit
from storage.metadata.records import Arrival, Secret, Word
from storage.stores import Stores
from storage.tokens import caller_of, check_target, digest_of, mint, note_use

_JWT_DOMAIN = b"weighbridge: the claims of a job's JWT\0"
_PREFIX_BYTES = 10


class NewSession(NamedTuple):
    """A session that has begun: whose, and the secret that belongs into their browser's cookie."""

    user: str
    token: str


def trust(stores: Stores, caller: Caller, user: str, create: IdentityCreate) -> IdentityInfo:
    """Let an issuer's subject in as a user.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        UserNotFoundError: there is no such user.
        InvalidNameError: a target is no team or model.
        ConflictError: the subject is bound already.
    """
    admit(stores, caller, Action.ADMINISTER)
    check_user(user)
    for target in create.targets:
        check_target(target)
    return stores.catalog.create_identity(user, create, caller.actor)


def list_trusted(stores: Stores, caller: Caller, user: str) -> list[IdentityInfo]:
    """Return who a user is elsewhere, the newest first.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        UserNotFoundError: there is no such user.
    """
    admit(stores, caller, Action.ADMINISTER)
    return stores.catalog.list_identities(user)


def distrust(stores: Stores, caller: Caller, user: str, identity: int) -> IdentityInfo:
    """Let nobody in any more by an identity, and end the tokens that were made on its word.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        IdentityNotFoundError: the user has none of that number.
    """
    admit(stores, caller, Action.ADMINISTER)
    return stores.catalog.remove_identity(user, identity, caller.actor)


def identify_job(stores: Stores, jwt: str, address: str | None, request_id: str | None) -> Caller | None:
    """Return who sent a JWT that was accepted before; None where it must be verified first.

    Raises:
        AuthenticationRequiredError: it was revoked or has expired, or its user was disabled.
    """
    known = stores.catalog.find_token(_prefix_of(jwt))
    is_same = hmac.compare_digest(digest_of(jwt), known.digest if known else digest_of(""))
    if known is None or not is_same:
        return None
    if not known.is_live:
        raise AuthenticationRequiredError(
            "This JWT was revoked or has expired, or its user was shut out. Let the job ask its issuer for another."
        )
    note_use(stores, known)
    return caller_of(known, address, request_id)


def accept_job(  # noqa: PLR0917 - whose word, of what, until when, from where
    stores: Stores, jwt: str, word: Word, expires_at: datetime, address: str | None, request_id: str | None
) -> Caller | None:
    """Return who sent a JWT that was verified, and remember it until it ends; None where its subject is no user's.

    Raises:
        AuthenticationRequiredError: it was revoked.
    """
    secret = Secret(_prefix_of(jwt), digest_of(jwt), expires_at)
    if not stores.catalog.accept_job(word, secret, address, request_id):
        return None
    known = stores.catalog.find_token(secret.prefix)
    if known is None or not known.is_live:
        raise AuthenticationRequiredError("This JWT was revoked. Let the job ask its issuer for another.")
    return caller_of(known, address, request_id)


def sign_in(
    stores: Stores, arrival: Arrival, lifetime: timedelta, address: str | None, request_id: str | None
) -> NewSession:
    """Begin a session of whoever an identity provider has signed in.

    Raises:
        PermissionDeniedError: they are no user and become none, or were shut out.
    """
    prefix, token = mint()
    secret = Secret(prefix, digest_of(token), datetime.now(UTC) + lifetime)
    user = stores.catalog.sign_in(arrival, secret, address, request_id)
    return NewSession(user, token)


def sign_out(stores: Stores, caller: Caller) -> None:
    """End the caller's session, and nothing that was made with it.

    Raises:
        ConflictError: they came with a token and not by a session.
    """
    known = stores.catalog.find_token(caller.token) if caller.token is not None else None
    if known is None or known.kind != "session":
        raise ConflictError("You came with a token and did not sign in. `weighbridge token revoke` ends a token.")
    stores.catalog.sign_out(known.prefix, caller.actor)


def create_lasting_token(stores: Stores, caller: Caller, days: int) -> NewToken:
    """Make a token for the caller's command line, which outlives the session that asks for it.

    It ends with the identity that signed in, or when an administrator revokes the session.

    Raises:
        AuthenticationRequiredError: the identity was removed meanwhile, or the session was ended.
        ConflictError: the caller came with a token: what that makes ends with it.
    """
    known = stores.catalog.find_token(caller.token) if caller.token is not None else None
    if known is None or known.kind != "session" or known.word is None:
        raise ConflictError("Sign in with a browser for this. With a token, `weighbridge token create` makes others.")
    create = TokenCreate(name="command line", scopes=list(Scope), expires_in_days=days)
    prefix, token = mint()
    secret = Secret(prefix, digest_of(token), datetime.now(UTC) + timedelta(days=days))
    info = stores.catalog.create_lasting_token(known.word, create, secret, caller.actor)
    return NewToken(**info.model_dump(), token=token)


def _prefix_of(jwt: str) -> str:
    """Return the name of a JWT among tokens: of what was signed, which nobody else can write differently.

    The signature itself can be: ECDSA has two for each, and Base64 has bits to spare. A name of the whole would let a
    revoked JWT come back under another.
    """
    signed = jwt.rpartition(".")[0]
    digest = hashlib.sha256(_JWT_DOMAIN + signed.encode()).digest()
    return "wb_" + base64.b32encode(digest[:_PREFIX_BYTES]).decode().lower()
