"""What the settings say of single sign-on, checked when the service starts."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api.oidc.fetching import is_plain_loopback
from api.oidc.groups import GroupRules
from api.settings import Settings
from registry.errors import ConfigurationError

if TYPE_CHECKING:
    from api.oidc.jobs import JobIssuers
    from api.oidc.provider import Provider

_MISSING = "Single sign-on needs two more packages: `pip install 'weighbridge[oidc]'`."


def open_job_issuers(settings: Settings) -> "JobIssuers | None":
    """Return those who may speak for jobs, None where nobody may.

    Raises:
        ConfigurationError: the settings contradict each other, or a package is missing.
    """
    issuers = [issuer.strip() for issuer in settings.job_issuers.split(",") if issuer.strip()]
    if not issuers:
        return None
    _require_users(settings)
    if settings.oidc_issuer in issuers and settings.job_audience == settings.oidc_client_id:
        raise ConfigurationError(
            "WEIGHBRIDGE_JOB_AUDIENCE is WEIGHBRIDGE_OIDC_CLIENT_ID, and WEIGHBRIDGE_OIDC_ISSUER speaks for jobs, too: "
            "whoever finds a person's ID token could come in with it. Choose another audience for jobs."
        )
    try:
        from api.oidc.jobs import JobIssuers
    except ImportError as error:
        raise ConfigurationError(_MISSING) from error
    return JobIssuers(issuers, settings.job_audience)


def open_provider(settings: Settings) -> "Provider | None":
    """Return the provider that signs people in, None where there is none.

    Raises:
        ConfigurationError: the settings contradict each other, or a package is missing.
    """
    rules = GroupRules.parse(settings.oidc_groups)
    if settings.oidc_issuer is None:
        if settings.oidc_client_id is not None or rules:
            raise ConfigurationError("Set WEIGHBRIDGE_OIDC_ISSUER as well: it says who signs people in.")
        return None
    if settings.oidc_client_id is None or settings.public_url is None:
        raise ConfigurationError(
            "WEIGHBRIDGE_OIDC_ISSUER is set, so WEIGHBRIDGE_OIDC_CLIENT_ID and WEIGHBRIDGE_PUBLIC_URL are needed, too."
        )
    if "openid" not in settings.oidc_scopes.split():
        raise ConfigurationError("WEIGHBRIDGE_OIDC_SCOPES must hold `openid`, for example `openid profile email`.")
    if settings.oidc_new_users == "groups" and not rules:
        raise ConfigurationError("WEIGHBRIDGE_OIDC_NEW_USERS=groups lets nobody in without WEIGHBRIDGE_OIDC_GROUPS.")
    _require_users(settings)
    public_url = check_public_url(settings.public_url)
    try:
        from api.oidc.provider import Provider
    except ImportError as error:
        raise ConfigurationError(_MISSING) from error
    return Provider(settings, public_url, rules)


def check_public_url(text: str) -> str:
    """Return where browsers reach the service, without a slash at its end.

    Raises:
        ConfigurationError: it is no address of a host alone, or one without encryption.
    """
    parts = urlsplit(text.strip())
    is_bare = parts.hostname and parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username)
    if not is_bare or not (parts.scheme == "https" or is_plain_loopback(parts.scheme, parts.hostname)):
        raise ConfigurationError(
            f"WEIGHBRIDGE_PUBLIC_URL is {text!r}. Write scheme and host alone, as https://models.example.com; http:// "
            "is for this machine only, for a session travels with each request."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _require_users(settings: Settings) -> None:
    if settings.is_open:
        raise ConfigurationError(
            "Single sign-on says who comes in, and this service asks nobody: set WEIGHBRIDGE_TEAMS=true as well."
        )
