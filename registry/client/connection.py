"""What the calls of one client share: its settings, the way to the service, the cache, and what was seen before."""

from dataclasses import dataclass

from registry.client.bucket import Buckets
from registry.client.cache import Cache
from registry.client.config import ClientSettings
from registry.client.resolve import Resolver
from registry.client.seen import SeenAnswers
from registry.client.transport import Transport


@dataclass(frozen=True, slots=True)
class Connection:
    """The parts of a client. Making one talks to nobody and writes nothing.

    Attributes:
        progress: whether to show progress bars; None shows them on a terminal.
    """

    settings: ClientSettings
    transport: Transport
    buckets: Buckets
    cache: Cache
    resolver: Resolver
    progress: bool | None

    @classmethod
    def to(cls, settings: ClientSettings, progress: bool | None) -> "Connection":  # noqa: FBT001 - one of three states
        """Put the parts together."""
        transport = Transport(settings.url, settings.token or settings.token_file)
        cache = Cache(settings.cache_folder)
        seen = SeenAnswers(cache, settings.url)
        resolver = Resolver(transport, seen, settings.team, offline=settings.offline)
        return cls(settings, transport, Buckets(), cache, resolver, progress)
