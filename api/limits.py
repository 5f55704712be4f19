"""How much one caller may ask of this process: requests a minute, failed logins, uploads at once. Kept in memory."""

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager

from registry.errors import RateLimitedError
from storage.access import Caller

MAX_KEYS = 20_000
"""Callers that are remembered at most; who was not seen for longest is forgotten first."""
FAILED_LOGINS_PER_MINUTE = 60
"""Of one address. Tokens have 256 random bits, so this saves work, not secrets."""
FAILED_JWTS_PER_MINUTE = 240
"""Of one address, and waiting for an issuer's keys at once: it may be the address of a whole cluster."""
FAILED_SIGN_INS_PER_MINUTE = 60
"""Of one address. Each may make the service ask the identity provider."""
NOTED_LOGINS_PER_MINUTE = 5
"""Failed logins of one address that go into the audit."""
NOTED_LOGINS_OF_ALL_PER_MINUTE = 60
RETRY_UPLOAD_SECONDS = 5
PARTS_PER_UPLOAD = 4
"""Of a planned upload, as many as the Python client sends at once."""


class Buckets:
    """Token buckets: each key may do `per_minute` things at once, and gets them back evenly over a minute.

    For one thread, that of the event loop.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one, if there is one; return 0, or in how many seconds there will be."""
        now = self._clock()
        level, at = self._levels.pop(key, (float(self._per_minute), now))
        level = min(float(self._per_minute), level + (now - at) * self._per_minute / 60)
        wait = 0.0 if level >= 1 else (1 - level) * 60 / self._per_minute
        self._levels[key] = (level if wait else level - 1, now)
        if len(self._levels) > MAX_KEYS:
            self._levels.popitem(last=False)
        return wait

    def give_back(self, key: str) -> None:
        """Undo one taking."""
        level, at = self._levels.get(key, (float(self._per_minute), self._clock()))
        self._levels[key] = (min(float(self._per_minute), level + 1), at)


class FailedLogins:
    """Counts who came with a token that is none: how often they are answered, and what the audit is told of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._answered = Buckets(FAILED_LOGINS_PER_MINUTE, clock)
        self._noted = Buckets(NOTED_LOGINS_PER_MINUTE, clock)
        self._noted_of_all = Buckets(NOTED_LOGINS_OF_ALL_PER_MINUTE, clock)
        self._left_out: OrderedDict[str, int] = OrderedDict()

    def note(self, address: str | None) -> int | None:
        """Count one for the audit; return how many of this address were left out before it, None to leave it out."""
        network = network_of(address)
        left_out = self._left_out.pop(network, 0)
        if not self._noted.take(network) and not self._noted_of_all.take(""):
            return left_out
        self._left_out[network] = left_out + 1
        if len(self._left_out) > MAX_KEYS:
            self._left_out.popitem(last=False)
        return None

    def take_left_out(self) -> dict[str, int]:
        """Return how many each address has that the audit was not told of; they count as told from now on."""
        left_out, self._left_out = dict(self._left_out), OrderedDict()
        return left_out

    def check(self, address: str | None) -> None:
        """Count one.

        Raises:
            RateLimitedError: there were too many. Who comes with a good token is let in all the same: many people may
                share an address.
        """
        if wait := self._answered.take(network_of(address)):
            raise _limited("Too many tokens from this address that the service does not know.", wait)


class CostlyLogins:
    """Counts logins that cost something before anybody knows whether they are good: by address, and failures only.

    Failed logins that cost nothing are counted apart, by `FailedLogins`, and shut nobody out here.
    """

    def __init__(self, failures_per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(failures_per_minute, clock)

    @contextmanager
    def one(self, address: str | None) -> Generator[None]:
        """Count one as failed during a block, and for good if the block raises anything.

        Raises:
            RateLimitedError: there were too many, so nothing is found out for this address just now.
        """
        network = network_of(address)
        if wait := self._buckets.take(network):
            raise _limited("Too many sign-ins and JWTs from this address that came to nothing.", wait)
        yield
        self._buckets.give_back(network)


class OpenStreams:
    """Request bodies that are being received, counted by who sends them.

    Args:
        of_one: at once; 0 for as many as all may have.
        of_all: at once, of all together.
        what: what they are called.
    """

    def __init__(self, of_one: int, of_all: int, what: str) -> None:
        self._of_one = of_one or of_all
        self._of_all = of_all
        self._what = what
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, key: str) -> Generator[int]:
        """Count one as open during a block; give how many of all are, with this one.

        Raises:
            RateLimitedError: as many are open already as this caller, or this process, may have.
        """
        if self._open[key] >= self._of_one:
            raise _limited(f"{self._open[key]} {self._what} of yours are open already.", RETRY_UPLOAD_SECONDS)
        others = self._open.total()
        if others >= self._of_all:
            raise _limited(f"The service receives as many {self._what} as it can.", RETRY_UPLOAD_SECONDS)
        self._open[key] += 1
        try:
            yield others + 1
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


class CallerLimits:
    """What callers are held to, each by itself and all together.

    Args:
        requests_per_minute: of one caller; 0 for any number.
        uploads_per_caller: at once; 0 for any number.
        open_uploads: at once of all callers.

    Attributes:
        uploads: pushes in one request.
        parts: of planned uploads, which come over several connections at once.
    """

    def __init__(self, requests_per_minute: int, uploads_per_caller: int, open_uploads: int) -> None:
        self.failed_logins = FailedLogins()
        self.new_jwts = CostlyLogins(FAILED_JWTS_PER_MINUTE)
        self.sign_ins = CostlyLogins(FAILED_SIGN_INS_PER_MINUTE)
        self.uploads = OpenStreams(uploads_per_caller, open_uploads, "uploads")
        self.parts = OpenStreams(PARTS_PER_UPLOAD * uploads_per_caller, PARTS_PER_UPLOAD * open_uploads, "parts")
        self._requests = Buckets(requests_per_minute) if requests_per_minute else None

    def count_request(self, key: str) -> None:
        """Count a request of a caller.

        Raises:
            RateLimitedError: there were too many.
        """
        if self._requests is not None and (wait := self._requests.take(key)):
            raise _limited("Too many requests in a short time.", wait)


def key_of(caller: Caller) -> str:
    """Return what a caller is counted by: their name, whatever token they use; without one, their address."""
    return caller.name if caller.token is not None else network_of(caller.address)


def network_of(address: str | None) -> str:
    """Return an address as it is counted: of IPv6 the /64, which is what one customer has."""
    try:
        known = ipaddress.ip_address(address or "")
    except ValueError:
        return address or "unknown"
    if known.version == 6:  # noqa: PLR2004 - the version of the protocol
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)


def _limited(what: str, seconds: float) -> RateLimitedError:
    wait = max(1, math.ceil(seconds))
    return RateLimitedError(f"{what} Come again in {wait} s.", retry_after=wait)
