"""Secrets out of what leaves the service: tokens by their shape, the installation's own by what they are."""

import base64
import json
import re
from collections.abc import Collection
from urllib.parse import unquote, unquote_plus, urlsplit

from pydantic import SecretStr
from starlette.types import Scope

from api.oidc.places import CALLBACK
from api.settings import Settings
from registry.errors import InvalidRequestError

_TOKEN = re.compile(r"(wb_[a-z2-7]{16})_[0-9a-f]+", re.IGNORECASE)
_DOTTED = re.compile(r"(?<![\w-])([\w-]{8,}+)\.[\w-]++\.[\w-]*+", re.ASCII)
"""What may be a JWT. It begins at the start of a word only and never steps back: a log line may hold 60 kB of one."""
_OBJECT = re.compile(rb"\s*\{\s*\"")
_WHOLE_TOKEN = re.compile(r"wb_[a-z2-7]{16}_[0-9a-f]{64}", re.IGNORECASE)
_MIN_HIDDEN_LENGTH = 8
"""A shorter secret is a word of its own in too many sentences."""


def hide_secrets(text: str, secrets: Collection[str] = ()) -> str:
    """Return a text without tokens, of which their public beginning stays, JWTs, and these secrets."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return _TOKEN.sub(r"\1_…", _DOTTED.sub(lambda found: "…" if _begins_jwt(found[1]) else found[0], text))


def check_url(scope: Scope, secret: str | None = None) -> None:
    """Return when neither a token nor this secret stands in a URL: it would be kept as a name, and by every proxy.

    An identity provider's code may be a JWT. It comes back in a URL (RFC 6749, 4.1.2), and is good once.

    Raises:
        InvalidRequestError: one does.
    """
    text = scope["path"] + unquote_plus(scope["query_string"].decode("latin-1"))
    is_jwt = scope["path"] != CALLBACK and any(_begins_jwt(found[1]) for found in _DOTTED.finditer(text))
    if is_jwt or _WHOLE_TOKEN.search(text) or (secret is not None and secret in text):
        raise InvalidRequestError(
            "A token stands in the URL, where every proxy on its way logs it. Revoke it, and send another one as "
            "`Authorization: Bearer …`."
        )


def _begins_jwt(word: str) -> bool:
    """Return whether Base64 begins a JSON object, as the header of a JWT does."""
    try:
        return _OBJECT.match(base64.urlsafe_b64decode(word[: min(len(word) & ~3, 64)])) is not None
    except ValueError:
        return False


def secrets_of(settings: Settings) -> frozenset[str]:
    """Return what must never be told of an installation's settings, also as it is written inside JSON."""
    values = [getattr(settings, name) for name in settings.model_fields_set]
    given = [each.get_secret_value() for each in values if isinstance(each, SecretStr)]
    try:
        password = urlsplit(settings.catalog_url).password or ""
    except ValueError:
        password = settings.catalog_url  # what cannot be read may hold it anywhere
    given += [password, unquote(password)]
    long = [each for each in given if len(each) >= _MIN_HIDDEN_LENGTH]
    return frozenset([*long, *(json.dumps(each)[1:-1] for each in long)])
