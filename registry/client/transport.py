"""HTTP to the service: pooled, with timeouts and retries."""

import itertools
import platform
import random
import time
import urllib.request
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import quote, urlencode, urljoin, urlsplit

import urllib3
from pydantic import BaseModel, ValidationError

from registry.client.answers import MAX_PROBLEM_BYTES, Incoming, failure_of, retry_after_seconds, unreachable
from registry.client.file_sending import POOLS
from registry.client.token_file import TokenFile
from registry.errors import PublishInProgressError, ServerUnreachableError, WeighbridgeError

AnswerT = TypeVar("AnswerT", bound=BaseModel)
Query: TypeAlias = Sequence[tuple[str, str | int | None]]
MakeBody: TypeAlias = Callable[[], Iterable[Any]]
"""Makes a request body again for every attempt: of bytes, or of pieces of files."""

ATTEMPTS = 5
ATTEMPTS_WHEN_REFUSED = 3
ATTEMPTS_WHEN_TOLD_TO_WAIT = 12
"""After 429: the service is well and says when to come again."""
CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 60.0
MAX_PAUSE_SECONDS = 60.0
MAX_REDIRECTS = 3
MAX_ANSWER_BYTES = 64 << 20
"""Of a JSON answer."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_PRECONDITIONS = frozenset({"if-match", "if-none-match"})
_BUSY = frozenset({429, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TOO_MANY_REQUESTS = 429
_FIRST_ERROR = 400


API = "/api/v1/"


def path_below_api(url: str) -> str | None:
    """Return what `Transport.open` takes for a URL of a plan; None for one that leads to a bucket."""
    return url.removeprefix(API) if url.startswith(API) else None


def route(*segments: str | int) -> str:
    """Return a path below `/api/v1`, each segment percent-encoded."""
    return "/".join(quote(str(segment), safe="") for segment in segments)


def back_off_seconds(attempt: int) -> float:
    """Return how long to wait after the failed `attempt` (1, 2 …): 0.2, 0.4, 0.8 … seconds, less a random half."""
    longest = min(0.1 * 2**attempt, 10.0)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing


class Transport:
    """Requests to one service. Safe to share between threads; holds no connection until it is used.

    The token goes to the service's own host only, never along a redirect to another one.
    """

    def __init__(self, url: str, token: str | TokenFile | None = None) -> None:
        self.url = url
        self._given = token
        self._pools = make_pools(url)

    def close(self) -> None:
        """Close the pooled connections."""
        self._pools.clear()

    @property
    def _token(self) -> str | None:
        return self._given.read() if isinstance(self._given, TokenFile) else self._given

    def get(self, answer: type[AnswerT], path: str, query: Query = ()) -> AnswerT:
        """Return the answer to a GET, as the given shape."""
        return self.call(answer, "GET", path, query=query)

    def call(
        self,
        answer: type[AnswerT],
        method: str,
        path: str,
        *,
        query: Query = (),
        body: BaseModel | MakeBody | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        repeatable: bool = False,
    ) -> AnswerT:
        """Send a request and return its JSON answer.

        Raises:
            WeighbridgeError: the error that the service named.
            ServerUnreachableError: it did not answer, or what answered is no Weighbridge service.
        """
        with self.open(
            method,
            path,
            query=query,
            body=body,
            headers=headers,
            read_timeout_seconds=read_timeout_seconds,
            repeatable=repeatable,
        ) as incoming:
            data = incoming.read(MAX_ANSWER_BYTES + 1)
        return self.understand(answer, data)

    def understand(self, answer: type[AnswerT], data: bytes) -> AnswerT:
        """Return the JSON of an answer in its shape.

        Raises:
            ServerUnreachableError: it has another: whatever answered is no Weighbridge service.
        """
        if len(data) > MAX_ANSWER_BYTES:
            raise ServerUnreachableError(
                f"{self.url} answered with more than {MAX_ANSWER_BYTES} bytes of JSON, which no Weighbridge service "
                "does. Check the URL."
            )
        try:
            return answer.model_validate_json(data)
        except ValidationError as error:
            raise ServerUnreachableError(
                f"What answered at {self.url} does not speak Weighbridge's protocol. Check the URL, and that client "
                "and service are of a like version."
            ) from error

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: BaseModel | None = None,
    ) -> None:
        """Send a request whose answer says nothing but that it worked."""
        with self.open(method, path, query=query, headers=headers, body=body) as incoming:
            incoming.read(MAX_PROBLEM_BYTES)

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: BaseModel | MakeBody | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        repeatable: bool = False,
    ) -> Generator[Incoming]:
        """Send a request, again where that is safe and may help, and yield the answer with its body unread.

        `repeatable` says that it is safe where neither the method nor an `Idempotency-Key` does.
        """
        url = f"{self.url}{API}{path}".rstrip("/")
        pairs = [(name, str(value)) for name, value in query if value is not None]
        if pairs:
            url += f"?{urlencode(pairs)}"
        sent = dict(headers or {})
        make_body = body
        if isinstance(body, BaseModel):
            data = body.model_dump_json(exclude_unset=True).encode()
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
            make_body = lambda: [data]  # noqa: E731 - one expression, used once
        incoming = self._send_until_answered(
            method, url, cast("MakeBody | None", make_body), sent, read_timeout_seconds, repeatable=repeatable
        )
        try:
            yield incoming
        finally:
            incoming.close()

    def _send_until_answered(
        self,
        method: str,
        url: str,
        make_body: MakeBody | None,
        headers: dict[str, str],
        read_timeout: float,
        *,
        repeatable: bool,
    ) -> Incoming:
        names = {name.lower() for name in headers}
        repeatable |= "idempotency-key" in names or (method in _IDEMPOTENT and not names & _PRECONDITIONS)
        for attempt in itertools.count(1):
            try:
                incoming = self._follow(method, url, make_body, headers, read_timeout)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                failure: WeighbridgeError = unreachable(self.url, error)
                most = ATTEMPTS
                pause, again = None, _may_retry(error, attempt, repeatable=repeatable)
            else:
                if incoming.status < _FIRST_ERROR:
                    return incoming
                failure = failure_of(incoming, self.url, self._token)
                pause = retry_after_seconds(incoming.headers)
                waiting = incoming.status in _BUSY or isinstance(failure, PublishInProgressError)
                is_limited = incoming.status == _TOO_MANY_REQUESTS
                again = waiting and (repeatable or is_limited)
                most = ATTEMPTS_WHEN_TOLD_TO_WAIT if is_limited else ATTEMPTS
            if not again or attempt >= most:
                raise failure
            time.sleep(back_off_seconds(attempt) if pause is None else min(pause, MAX_PAUSE_SECONDS))
        raise AssertionError("the loop ends by return or raise")

    def _follow(
        self, method: str, url: str, make_body: MakeBody | None, headers: dict[str, str], read_timeout: float
    ) -> Incoming:
        for _ in range(MAX_REDIRECTS + 1):
            sent = {"User-Agent": user_agent(), "Accept-Encoding": "identity", **headers}
            if _origin(url) == _origin(self.url) and (token := self._token) is not None:
                sent["Authorization"] = f"Bearer {token}"
            response = self._pools.request(
                method,
                url,
                body=make_body() if make_body is not None else None,
                headers=sent,
                preload_content=False,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=read_timeout),
            )
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None or method not in {"GET", "HEAD"}:
                return Incoming(response.status, response.headers, response, self.url)
            response.drain_conn()
            url = urljoin(url, target)
        raise urllib3.exceptions.ProtocolError(f"more than {MAX_REDIRECTS} redirects")


def make_pools(url: str) -> urllib3.PoolManager:
    """Return connections to a URL's host, by the proxy that the environment names."""
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        pools = urllib3.ProxyManager(proxy, maxsize=8)
    else:
        pools = urllib3.PoolManager(maxsize=8)
    pools.pool_classes_by_scheme = POOLS
    return pools


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


@cache
def user_agent() -> str:
    """Return who asks."""
    try:
        number = version("weighbridge")
    except PackageNotFoundError:
        number = "0"
    return f"weighbridge/{number} (Python {platform.python_version()}; {platform.system()})"


def _may_retry(error: Exception, attempt: int, *, repeatable: bool) -> bool:
    """Return whether another attempt may help. Nothing was sent when no connection came about, so that is safe."""
    if isinstance(error, urllib3.exceptions.SSLError | urllib3.exceptions.LocationValueError):
        return False
    if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
        return attempt < ATTEMPTS_WHEN_REFUSED
    return repeatable
