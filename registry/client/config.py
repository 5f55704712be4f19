"""Where the client finds its service: arguments, then the environment, then the file that `login` wrote."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import urlsplit

import platformdirs

from registry.client.token_file import TokenFile
from registry.errors import ConfigurationError
from registry.names import check_team
from registry.paths import expand_home

DEFAULT_URL = "http://127.0.0.1:8000"
_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a client works with.

    Attributes:
        url: of the service, without `/api/v1` and without a slash at its end.
        token: sent to that service only; None where the service is open, or the token stands in a file.
        token_file: holds the token, and another before that one ends; read for each request.
        team: completes references that name none; None asks the service for its default.
        cache_folder: holds downloaded files, shared by all models and processes of this user.
        offline: never talk to the service.
    """

    url: str
    token: str | None
    team: str | None
    cache_folder: Path
    offline: bool
    token_file: TokenFile | None = None

    @classmethod
    def resolve(
        cls,
        url: str | None = None,
        token: str | None = None,
        team: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        *,
        offline: bool | None = None,
    ) -> Self:
        """Fill what was left out from `WEIGHBRIDGE_*` variables, then from the file of `weighbridge login`.

        Raises:
            ConfigurationError: the URL or the configuration file cannot be used.
            InvalidNameError: the team's name is none.
        """
        saved = SavedLogins.load()
        named = os.environ.get("WEIGHBRIDGE_URL")
        chosen = check_url(url or named or saved.default_url or DEFAULT_URL)
        # A token in the environment beside a URL is for that service, not for another that a call names.
        is_its_own = not (url and named) or check_url(named) == chosen
        from_environment = os.environ.get("WEIGHBRIDGE_TOKEN") if is_its_own else None
        file = os.environ.get("WEIGHBRIDGE_TOKEN_FILE") if is_its_own and not (token or from_environment) else None
        team = team or os.environ.get("WEIGHBRIDGE_TEAM") or None
        if offline is None:
            offline = os.environ.get("WEIGHBRIDGE_OFFLINE", "").strip().lower() in _TRUE
        return cls(
            url=chosen,
            token=token or from_environment or (None if file else saved.tokens.get(chosen)),
            team=check_team(team) if team else None,
            cache_folder=expand_home(cache_folder) if cache_folder else default_cache_folder(),
            offline=offline,
            token_file=TokenFile(Path(file)) if file else None,
        )


def default_cache_folder() -> Path:
    """Return `WEIGHBRIDGE_CACHE`, else the place where this system keeps a user's caches."""
    chosen = os.environ.get("WEIGHBRIDGE_CACHE")
    return expand_home(chosen) if chosen else platformdirs.user_cache_path("weighbridge", appauthor=False)


def check_url(text: str) -> str:
    """Return the service's URL in the form that settings compare.

    Raises:
        ConfigurationError: it has no scheme or host, carries a password, a query or a fragment.
    """
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"{text!r} is no URL of a service: write it like {DEFAULT_URL}.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            "The service's URL holds more than scheme, host, port and path. Give the token by WEIGHBRIDGE_TOKEN "
            "or `weighbridge login`, never inside the URL."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def config_file() -> Path:
    """Return the path of the file that `login` writes; it may not exist."""
    return platformdirs.user_config_path("weighbridge", appauthor=False) / "logins.json"


@dataclass(frozen=True, slots=True)
class SavedLogins:
    """The tokens of `weighbridge login` by URL, and the URL logged in to last."""

    default_url: str | None
    tokens: dict[str, str]

    @classmethod
    def load(cls) -> Self:
        """Read the file; no file means no logins.

        Raises:
            ConfigurationError: the file is there and cannot be read.
        """
        path = config_file()
        try:
            document: Any = json.loads(path.read_text("utf-8"))
            tokens = cast("dict[str, str]", document["tokens"])
            return cls(document.get("default_url"), {str(url): str(token) for url, token in tokens.items()})
        except FileNotFoundError:
            return cls(None, {})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{path} cannot be read ({error}). Delete it and run `weighbridge login URL` again."
            ) from error

    def save(self) -> Path:
        """Write the file, readable by its owner only, in one step."""
        path = config_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes the file 0600, so the token is never readable by others, not even for a moment.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".logins-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"default_url": self.default_url, "tokens": self.tokens}, file, indent=2)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return path

    def with_login(self, url: str, token: str | None) -> "SavedLogins":
        """Return these logins with one more, which becomes the default; None forgets the token."""
        tokens = {known: kept for known, kept in self.tokens.items() if known != url}
        return SavedLogins(url, tokens | ({url: token} if token else {}))

    def without_login(self, url: str) -> "SavedLogins":
        """Return these logins without one; where it was the default, the one before it is."""
        tokens = {known: kept for known, kept in self.tokens.items() if known != url}
        default = self.default_url if self.default_url != url else next(reversed(tokens), None)
        return SavedLogins(default, tokens)
