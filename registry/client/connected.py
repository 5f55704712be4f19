"""What every part of the client has: the way to one service, and the cache."""

from pathlib import Path

from registry.client.connection import Connection
from registry.schema import ServiceInfo


class Connected:
    """The connection that the methods of a client use.

    Args:
        connection: to the service, with its cache.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def close(self) -> None:
        """Close pooled connections; the client can still be used and opens new ones."""
        self.connection.transport.close()
        self.connection.buckets.close()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self.connection.settings.url

    @property
    def cache_dir(self) -> Path:
        """Where downloaded files are kept."""
        return self.connection.cache.folder

    def service(self) -> ServiceInfo:
        """Return who answers: version, capabilities, limits."""
        return self.connection.resolver.service()
