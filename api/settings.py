"""Every setting of the service, read from `WEIGHBRIDGE_…` variables when the service starts, never at import."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.errors import ConfigurationError

_MIN_TOKEN_LENGTH = 16
_REQUESTS_PER_MINUTE = 1200
_UPLOADS_PER_CALLER = 16


class Settings(BaseSettings):
    """What an installation may choose. Without any of it: embedded, on loopback, in `weighbridge-data`."""

    model_config = SettingsConfigDict(env_prefix="WEIGHBRIDGE_", env_ignore_empty=True, extra="ignore", frozen=True)

    host: str = Field(
        "127.0.0.1", description="The address to listen on. Elsewhere than on loopback a token is needed."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="The port to listen on; 0 takes a free one.")
    token: SecretStr | None = Field(
        None, description="Who sends it as `Authorization: Bearer …` is an administrator; at least 16 characters."
    )
    teams: bool = Field(
        default=False, description="Whether callers need tokens of their own; the first start makes an administrator."
    )
    data: Path = Field(Path("weighbridge-data"), description="The folder for everything that has no URL of its own.")
    database_url: str | None = Field(
        None, description="`postgresql+psycopg://…`, or `sqlite:///PATH`; without it, SQLite in the data folder."
    )
    database_pool: Annotated[int, Field(ge=1, le=1000)] = Field(10, description="Database connections of one process.")
    blobs_url: str | None = Field(
        None, description="`s3://BUCKET?…`, `minio://HOST/BUCKET?…` or a folder; without it, in the data folder."
    )
    blobs_access_key: str | None = Field(None, description="The access key of the bucket.")
    blobs_secret_key: SecretStr | None = Field(None, description="The secret key of the bucket.")
    direct: bool = Field(
        default=True,
        description="For a bucket: whether bytes go straight between it and clients, by URLs that live for minutes. "
        "False where clients cannot reach it.",
    )
    reserve_bytes: Annotated[int, Field(ge=0)] = Field(
        64 << 20, description="For a folder: what stays free on its disk, so that deleting still works; in bytes."
    )
    max_artifact_bytes: Annotated[int, Field(ge=1)] = Field(1 << 40, description="The largest file taken, in bytes.")
    max_artifacts: Annotated[int, Field(ge=1, le=10_000)] = Field(1000, description="Files of one version at most.")
    max_metadata_bytes: Annotated[int, Field(ge=1024, le=64 << 20)] = Field(
        1 << 20, description="The largest JSON body or form fields taken, in bytes."
    )
    allow_code: bool = Field(
        default=True, description="Whether files are taken that run code when they are opened (full pickled modules)."
    )
    default_team: str | None = Field(
        None, description="The team of names without one; `shared` where no token is needed."
    )
    allowed_hosts: str = Field(
        "", description="Without tokens: further `Host` names, separated by commas, under which browsers may call."
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Processes; more than one needs PostgreSQL.")
    uploads: Annotated[int, Field(ge=1, le=1000)] = Field(
        16, description="Threads that write received bytes; slow uploads hold one only while they write."
    )
    verifications: Annotated[int, Field(ge=1, le=1000)] = Field(4, description="Files verified at the same time.")
    open_uploads: Annotated[int, Field(ge=1, le=100_000)] = Field(
        256, description="Uploads that one process receives at the same time; further ones are answered 429."
    )
    uploads_per_caller: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Uploads of one user, or address without a token, at the same time; 0 for any number. Without it "
        "16 where tokens are needed.",
    )
    requests_per_minute: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Requests of one user, or address without a token, that one process answers; 0 for any number. "
        "Without it 1200 where tokens are needed.",
    )
    idle_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        60, description="How long an upload may pause before it is given up; in seconds."
    )
    drain_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        110, description="How long running requests may take to finish after SIGTERM."
    )
    collect_seconds: Annotated[int, Field(ge=1)] = Field(300, description="How often garbage is collected.")
    grace_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        30, description="How long a deleted version can be restored before its content is purged; in days."
    )
    public_url: str | None = Field(
        None, description="Where browsers reach the service, as `https://models.example.com`; single sign-on needs it."
    )
    oidc_issuer: str | None = Field(
        None, description="Single sign-on: the OpenID Connect provider, as `iss` in its tokens says it."
    )
    oidc_client_id: str | None = Field(None, description="Single sign-on: what the provider calls this service.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="Single sign-on: the client's secret; without it the client is a public one, with PKCE alone."
    )
    oidc_scopes: str = Field(
        "openid profile email", description="Single sign-on: what the provider is asked for, separated by blanks."
    )
    oidc_user_claim: str = Field(
        "preferred_username", description="Single sign-on: the claim that names a new user, up to its first `@`."
    )
    oidc_new_users: Literal["everyone", "groups", "nobody"] = Field(
        "everyone",
        description="Single sign-on: who becomes a user by signing in: `everyone` whom the provider lets in, members "
        "of a group in WEIGHBRIDGE_OIDC_GROUPS (`groups`), or `nobody`.",
    )
    oidc_groups_claim: str = Field("groups", description="Single sign-on: the claim that lists a person's groups.")
    oidc_groups: str | None = Field(
        None,
        description='Single sign-on: what groups give, as JSON: `{"ml-vision": "vision:writer", "platform": '
        '"administrator"}`.',
    )
    session_hours: Annotated[int, Field(ge=1, le=720)] = Field(
        12, description="How long somebody who signed in with a browser stays in; in hours."
    )
    login_token_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        90,
        description="How long the token lives that a person makes for `weighbridge login` after signing in; in days.",
    )
    job_issuers: str = Field(
        "", description="Issuers whose JWTs jobs may send, separated by commas, each as `iss` in its JWTs says it."
    )
    job_audience: Annotated[str, Field(min_length=1)] = Field(
        "weighbridge", description="The audience (`aud`) that JWTs of jobs must be made for."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is logged at least.")

    @property
    def is_open(self) -> bool:
        """Whether whoever reaches the service may do everything, which is only ever so on loopback."""
        return self.token is None and not self.teams

    @property
    def request_limit(self) -> int:
        """Requests a minute of one caller, 0 for any number: who may do everything on loopback is held to none."""
        default = 0 if self.is_open else _REQUESTS_PER_MINUTE
        return default if self.requests_per_minute is None else self.requests_per_minute

    @property
    def upload_limit(self) -> int:
        """Uploads of one caller at once, 0 for any number."""
        default = 0 if self.is_open else _UPLOADS_PER_CALLER
        return default if self.uploads_per_caller is None else self.uploads_per_caller

    @property
    def is_embedded(self) -> bool:
        """Whether the rows are in SQLite: this process owns them and migrates them itself."""
        return self.catalog_url.startswith("sqlite")

    @property
    def catalog_url(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data.absolute() / 'catalog.sqlite'}"

    @property
    def blobs(self) -> str | Path:
        """The blob store's URL, or its folder."""
        return self.blobs_url or self.data.absolute() / "blobs"

    @property
    def open_team(self) -> str | None:
        """The team that a name without one belongs to."""
        return self.default_team or ("shared" if self.is_open else None)


def read_settings(**given: object) -> Settings:
    """Return the settings of the environment; `given` ones (not None) count more.

    Raises:
        ConfigurationError: a variable is wrong; the detail names it.
    """
    try:
        return Settings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = [f"WEIGHBRIDGE_{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors()]
        raise ConfigurationError("; ".join(wrong) + ".") from error


def as_variables(settings: Settings) -> dict[str, str]:
    """Return the variables that make another process read the same settings."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    plain = {name: each.get_secret_value() if isinstance(each, SecretStr) else each for name, each in given.items()}
    return {f"WEIGHBRIDGE_{name.upper()}": str(each) for name, each in plain.items() if each is not None}


def check_exposure(settings: Settings) -> None:
    """Return when what listens is either on loopback or guarded by a token.

    Raises:
        ConfigurationError: it is neither, or the token is easily guessed.
    """
    token = settings.token.get_secret_value() if settings.token is not None else None
    if settings.is_open and not is_loopback(settings.host):
        raise ConfigurationError(
            f"Listening on {settings.host} without a token would let everybody in. Set WEIGHBRIDGE_TEAMS=true for "
            "tokens of each user's own, or WEIGHBRIDGE_TOKEN for one of all (such as the output of "
            "`openssl rand -hex 32`), or listen on 127.0.0.1."
        )
    if token is not None and len(token) < _MIN_TOKEN_LENGTH:
        raise ConfigurationError(
            f"WEIGHBRIDGE_TOKEN has fewer than {_MIN_TOKEN_LENGTH} characters and can be guessed. Use the output of "
            "`openssl rand -hex 32`."
        )
    if settings.is_embedded and settings.workers > 1:
        raise ConfigurationError(
            "SQLite serves one process: set WEIGHBRIDGE_WORKERS=1, or WEIGHBRIDGE_DATABASE_URL to a PostgreSQL server."
        )


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
