"""What a running service holds: its settings, its stores, and how many threads each kind of work may take."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from api.limits import CallerLimits
from api.oidc.configured import open_job_issuers, open_provider
from api.settings import Settings
from registry.schema import Limits
from storage.installation import open_stores
from storage.stores import Stores

if TYPE_CHECKING:
    from api.oidc.jobs import JobIssuers
    from api.oidc.provider import Provider

Params = ParamSpec("Params")
ResultT = TypeVar("ResultT")

log = logging.getLogger("weighbridge.receive")


@dataclass(slots=True)
class Service:
    """One process's share of an installation.

    Attributes:
        uploads: threads that write received bytes; one is held while a piece is written, never while it is awaited.
        verifications: threads that verify what was received.
        downloads: threads that read what is sent.
        followers: threads that digest files while their parts still come.
        callers: how much one caller may ask for.
        sign_ins: threads that ask the provider that signs people in.
        job_keys: by issuer of jobs, threads that fetch its keys or wait for them; a slow one keeps no other waiting.
        jobs: who may speak for jobs; None where nobody may.
        provider: who signs people in; None where nobody does.
    """

    settings: Settings
    stores: Stores
    uploads: CapacityLimiter
    verifications: CapacityLimiter
    downloads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(32))
    followers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4))
    callers: CallerLimits = field(init=False)
    sign_ins: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(8))
    job_keys: defaultdict[str, CapacityLimiter] = field(default_factory=lambda: defaultdict(lambda: CapacityLimiter(4)))
    jobs: "JobIssuers | None" = field(init=False)
    provider: "Provider | None" = field(init=False)
    _following: set[asyncio.Future[None]] = field(init=False, default_factory=set[asyncio.Future[None]])

    def __post_init__(self) -> None:
        """Make the counters, and what lets people and jobs in, that the settings ask for."""
        settings = self.settings
        self.callers = CallerLimits(settings.request_limit, settings.upload_limit, settings.open_uploads)
        self.jobs = open_job_issuers(settings)
        self.provider = open_provider(settings)

    @classmethod
    def open(cls, settings: Settings) -> "Service":
        """Return the service that the settings describe.

        Raises:
            ConfigurationError: they contradict each other, or what they find.
            CatalogUnavailableError, BlobStoreUnavailableError: something does not answer.
        """
        stores = open_settings(settings)
        try:
            return cls(settings, stores, CapacityLimiter(settings.uploads), CapacityLimiter(settings.verifications))
        except BaseException:
            stores.close()
            raise

    async def in_upload(
        self, work: Callable[Params, ResultT], /, *args: Params.args, **kwargs: Params.kwargs
    ) -> ResultT:
        """Return what `work` returns in a thread for uploads."""
        return await run_sync(partial(work, *args, **kwargs), limiter=self.uploads)

    async def in_verification(
        self, work: Callable[Params, ResultT], /, *args: Params.args, **kwargs: Params.kwargs
    ) -> ResultT:
        """Return what `work` returns in a thread for verification."""
        return await run_sync(partial(work, *args, **kwargs), limiter=self.verifications)

    async def in_sign_in(
        self, work: Callable[Params, ResultT], /, *args: Params.args, **kwargs: Params.kwargs
    ) -> ResultT:
        """Return what `work` returns in a thread that may wait for the provider that signs people in."""
        return await run_sync(partial(work, *args, **kwargs), limiter=self.sign_ins)

    async def in_job_keys(
        self, issuer: str, work: Callable[Params, ResultT], /, *args: Params.args, **kwargs: Params.kwargs
    ) -> ResultT:
        """Return what `work` returns in a thread that may wait for the keys of an issuer in the settings."""
        return await run_sync(partial(work, *args, **kwargs), limiter=self.job_keys[issuer])

    def follow(self, work: Callable[Params, None], /, *args: Params.args, **kwargs: Params.kwargs) -> None:
        """Do work in a thread of its own limit that nobody waits for: what is lost of it costs only time later."""
        task = asyncio.ensure_future(run_sync(partial(work, *args, **kwargs), limiter=self.followers))
        self._following.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[None]) -> None:
        self._following.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("Digesting a file while it comes failed; that is made up for later", exc_info=error)

    def close(self) -> None:
        """Let go of everything."""
        self.stores.close()


def open_settings(settings: Settings, *, adopts_registry: bool = False) -> Stores:
    """Return the stores that the settings name; an empty database can adopt the registry of its blob store."""
    return open_stores(
        settings.catalog_url,
        settings.blobs,
        access_key=settings.blobs_access_key,
        secret_key=settings.blobs_secret_key,
        reserve_bytes=settings.reserve_bytes,
        pool_size=settings.database_pool,
        limits=limits_of(settings),
        allow_code=settings.allow_code,
        grace=timedelta(days=settings.grace_days),
        adopts_registry=adopts_registry,
        direct=settings.direct,
    )


def limits_of(settings: Settings) -> Limits:
    """Return what pushes and pages may hold."""
    return Limits(
        max_artifact_bytes=settings.max_artifact_bytes,
        max_artifacts=settings.max_artifacts,
        max_metadata_bytes=settings.max_metadata_bytes,
        max_page=1000,
    )
