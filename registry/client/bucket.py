"""HTTP to a bucket, by URLs that the service signed: no token, no retries, three ways to fail."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import urllib3

from registry.client.answers import Incoming, unreachable
from registry.client.transport import MakeBody, make_pools, user_agent
from registry.errors import ServerUnreachableError

CONNECT_TIMEOUT_SECONDS = 5.0
_NEVER_CAME_ABOUT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
    urllib3.exceptions.LocationValueError,
)


class BucketUnreachableError(Exception):
    """No connection came about: the bucket cannot be reached from here."""


class BucketRefusedError(Exception):
    """The bucket answered with a refusal: the URL is too old, or what it names is elsewhere now, or ended."""


class Buckets:
    """Connections to wherever signed URLs lead. Safe to share between threads.

    Attributes:
        reachable: False once no connection came about.
    """

    def __init__(self) -> None:
        self.reachable = True
        self._pools: dict[str, urllib3.PoolManager] = {}

    def close(self) -> None:
        """Close the pooled connections."""
        for pool in self._pools.values():
            pool.clear()

    @contextmanager
    def open(
        self,
        url: str,
        headers: Mapping[str, str],
        read_timeout_seconds: float,
        *,
        method: str = "GET",
        make_body: MakeBody | None = None,
    ) -> Generator[Incoming]:
        """Send a request with exactly these headers and yield the answer with its body unread.

        Raises:
            BucketUnreachableError: no connection came about.
            BucketRefusedError: the bucket did not do what was signed.
            ServerUnreachableError: the connection broke.
        """
        host = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
        pool = self._pools.get(host) or self._pools.setdefault(host, make_pools(url))
        try:
            response = pool.request(
                method,
                url,
                body=make_body() if make_body is not None else None,
                headers={"User-Agent": user_agent(), "Accept-Encoding": "identity", **headers},
                preload_content=False,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=read_timeout_seconds),
            )
        except _NEVER_CAME_ABOUT as error:
            self.reachable = False
            raise BucketUnreachableError(host) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(host, error) from error
        incoming = Incoming(response.status, response.headers, response, host)
        try:
            if incoming.status not in {200, 206}:
                raise BucketRefusedError(f"{host} answered {incoming.status}")
            yield incoming
        finally:
            incoming.close()


def refused(error: Exception) -> ServerUnreachableError:
    """Return the named error for a bucket that gives or takes nothing."""
    return ServerUnreachableError(
        f"The bucket does not do what the service signed ({error}). Try again; if it stays, tell the operator of the "
        "service."
    )
