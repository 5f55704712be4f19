"""Secrets out of what leaves the service: tokens by their shape, the installation's own by what they are."""

import json
import re
from collections.abc import Collection
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from api.settings import Settings

_TOKEN = re.compile(r"(wb_[a-z2-7]{16})_[0-9a-f]+", re.IGNORECASE)
_JWT = re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+")
_WHOLE_TOKEN = re.compile(r"wb_[a-z2-7]{16}_[0-9a-f]{64}", re.IGNORECASE)
_MIN_HIDDEN_LENGTH = 8
"""A shorter secret is a word of its own in too many sentences."""


def hide_secrets(text: str, secrets: Collection[str] = ()) -> str:
    """Return a text without tokens, of which their public beginning stays, JWTs, and these secrets."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return _TOKEN.sub(r"\1_…", _JWT.sub("…", text))


def holds_secret(text: str, secrets: Collection[str] = ()) -> bool:
    """Return whether a whole token, or one of these secrets, stands in a text."""
    return _WHOLE_TOKEN.search(text) is not None or any(secret in text for secret in secrets)


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
