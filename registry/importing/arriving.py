"""One file on its way from a web server: asked for again where the connection breaks, continued where that is safe."""

import contextlib
import json
import re
import time
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import urllib3

from registry.client.progress import Bar, progress_bar
from registry.client.transport import CONNECT_TIMEOUT_SECONDS, back_off_seconds, make_pools, user_agent
from registry.errors import (
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    TooLargeError,
    UnavailableError,
)
from registry.importing.content_range import start_of, total_of
from registry.importing.sources import check_source_url

ATTEMPTS = 5
"""Without a byte of progress between them."""
MAX_REDIRECTS = 5
PIECE_BYTES = 1 << 20
READ_TIMEOUT_SECONDS = 60.0
_OK, _PARTIAL, _NOT_MODIFIED, _BAD_RANGE, _FIRST_ERROR, _FIRST_SERVER_ERROR = 200, 206, 304, 416, 400, 500
_DENIED = frozenset({401, 403})
_MISSING = frozenset({404, 410})
_BUSY = frozenset({429, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file must be.

    Attributes:
        url: where it is.
        max_bytes: that are taken.
        sha256_start: hexadecimal digits that its SHA-256 begins with; None when nobody says.
        hashed_by: header with its whole SHA-256, in an answer of `url` itself (the Hub's `X-Linked-ETag`).
        progress: whether to show a bar; None shows one on a terminal.
    """

    url: str
    max_bytes: int
    sha256_start: str | None = None
    hashed_by: str | None = None
    progress: bool | None = None


@dataclass(slots=True)
class State:
    """What identifies the bytes behind a URL: a strong ETag, or a date. Without either nothing is continued.

    The digests are those of what arrived; the cache knows it by its BLAKE3.
    """

    etag: str | None = None
    modified: str | None = None
    sha256: str | None = None
    blake3: str | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` takes."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified


class _InterruptedError(Exception):
    """The connection broke; more may come of another."""


class Download:
    """One file on its way; each attempt asks for what is missing.

    Args:
        wanted: what it must be.
        file: takes the bytes; what it holds arrived before.
        state_file: says of which state of the file.
        known: the state that the cache holds in full.
    """

    def __init__(self, wanted: Wanted, file: FileIO, state_file: Path, known: State) -> None:
        self._wanted = wanted
        self._file = file
        self._state_file = state_file
        self._known = known
        self._state = read_state(state_file)
        self._pools: dict[str, urllib3.PoolManager] = {}
        self.announced: str | None = None

    def run(self) -> State | None:
        """Bring the whole file; None when what the cache holds is still the newest."""
        failures = 0
        while True:
            before = self._size()
            try:
                return self._attempt()
            except (urllib3.exceptions.HTTPError, _InterruptedError) as error:
                failures = 0 if self._size() > before else failures + 1
                if failures >= ATTEMPTS or isinstance(error, urllib3.exceptions.SSLError):
                    raise UnavailableError(
                        f"{self._wanted.url} does not come: {_say(error)}. Run the same command again to continue "
                        f"where it stopped ({self._size()} bytes are here)."
                    ) from error
                time.sleep(back_off_seconds(failures + 1))

    def _attempt(self) -> State | None:
        response = self._open()
        try:
            if response.status == _NOT_MODIFIED:
                return None
            if response.status == _BAD_RANGE:
                self._restart()
                raise _InterruptedError("the host refused to continue, so it starts again")
            self._refuse(response.status)
            total = self._begin(response)
            with progress_bar(
                f"fetch {self._wanted.url.rpartition('/')[2]}", total or 0, wanted=self._wanted.progress
            ) as bar:
                bar.advance(self._size())
                self._receive(response, bar)
            if total is not None and self._size() != total:
                raise _InterruptedError(f"{self._size()} of {total} bytes came")
            return self._state
        finally:
            response.close()

    def _open(self) -> urllib3.BaseHTTPResponse:
        """Ask for the rest, or for all of it if it changed, along redirects."""
        headers = {"User-Agent": user_agent(), "Accept-Encoding": "identity"}
        validator = self._state.validator
        if self._size() and validator:
            headers |= {"Range": f"bytes={self._size()}-", "If-Range": validator}
        else:
            self._restart()
            if self._known.etag:
                headers["If-None-Match"] = self._known.etag
        url = self._wanted.url
        for hop in range(MAX_REDIRECTS + 1):
            response = self._pool(url).request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=READ_TIMEOUT_SECONDS),
            )
            if hop == 0 and self._wanted.hashed_by:
                said = (response.headers.get(self._wanted.hashed_by) or "").strip('"')
                self.announced = said if _SHA256.fullmatch(said) else None
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                return response
            response.close()
            url = _next_url(url, target)
        raise UnavailableError(f"{self._wanted.url} leads through more than {MAX_REDIRECTS} redirects.")

    def _pool(self, url: str) -> urllib3.PoolManager:
        scheme = url.partition(":")[0]
        return self._pools.setdefault(scheme, make_pools(url))

    def _begin(self, response: urllib3.BaseHTTPResponse) -> int | None:
        """Put the file where the answer begins, and return the size that it shall have, if the host says."""
        arriving = State(response.headers.get("ETag"), response.headers.get("Last-Modified"))
        continued = (
            response.status == _PARTIAL
            and start_of(response.headers.get("Content-Range")) == self._size()
            and arriving.validator == self._state.validator
        )
        if response.status == _PARTIAL and not continued:
            self._restart()
            raise _InterruptedError("the host continued with something else, so it starts again")
        if not continued:
            self._restart()
        total = total_of(response.headers, partial=continued)
        if total is not None and total > self._wanted.max_bytes:
            raise self._too_large(total)
        self._state = arriving
        write_state(self._state_file, arriving)
        return total

    def _receive(self, response: urllib3.BaseHTTPResponse, bar: Bar) -> None:
        while piece := response.read1(PIECE_BYTES, decode_content=False):  # what is there: none of it is lost
            if self._size() + len(piece) > self._wanted.max_bytes:
                raise self._too_large(self._size() + len(piece))
            view = memoryview(piece)
            while view:  # an unbuffered file may take less than it is given
                view = view[self._file.write(view) :]
            bar.advance(len(piece))

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._state = State()

    def _size(self) -> int:
        return self._file.tell()

    def _refuse(self, status: int) -> None:
        url = self._wanted.url
        if status in _MISSING:
            raise NotFoundError(f"There is nothing at {url} (status {status}).")
        if status in _DENIED:
            raise PermissionDeniedError(
                f"{url} is not given to everybody (status {status}). Fetch it with the tools of its host and import "
                "the folder, or push the file."
            )
        if status in _BUSY:
            raise _InterruptedError(f"status {status}")
        if status not in {_OK, _PARTIAL}:
            kind = UnavailableError if status >= _FIRST_SERVER_ERROR or status < _FIRST_ERROR else InvalidRequestError
            raise kind(f"{url} answered with status {status}.")

    def _too_large(self, size: int) -> TooLargeError:
        self._restart()
        return TooLargeError(
            f"{self._wanted.url} has at least {size} bytes; the service takes {self._wanted.max_bytes} a file."
        )


def _next_url(url: str, target: str) -> str:
    """Return where a redirect leads: never from https to http, nor from another machine to this one."""
    following = check_source_url(urljoin(url, target))
    if url.startswith("https:") and not following.startswith("https:"):
        raise InvalidRequestError(f"{url} leads to {following}, which is not encrypted.")
    return following


def read_state(path: Path) -> State:
    """Return what was written; an empty state when there is none."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        document: Any = json.loads(path.read_bytes())
        return State(*(None if document.get(name) is None else str(document[name]) for name in State.__slots__))
    return State()


def write_state(path: Path, state: State) -> None:
    """Keep a state, in one step."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(state)), "utf-8")
    new.replace(path)


def _say(error: Exception) -> str:
    text = str(error)
    return text.rsplit(": ", 1)[-1] if text else type(error).__name__
