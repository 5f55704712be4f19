"""What comes back over HTTP: a body still to be read, or a reason why there is none."""

import http.client
import json
import os
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, Protocol, cast

import urllib3

from registry.errors import (
    AuthenticationRequiredError,
    NotFoundError,
    PermissionDeniedError,
    ServerUnreachableError,
    TooLargeError,
    UnavailableError,
    WeighbridgeError,
    error_from_problem,
)

PIECE_BYTES = 1 << 20
MAX_PROBLEM_BYTES = 1 << 20
_UNAUTHORIZED = 401
_FIRST_SERVER_ERROR = 500
_BY_STATUS: dict[int, type[WeighbridgeError]] = {
    401: AuthenticationRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: TooLargeError,
}


class _Body(Protocol):
    """The part of `http.client.HTTPResponse` that is used; `length` is what is still to come."""

    length: int | None
    fp: BufferedReader

    def readinto(self, buffer: memoryview, /) -> int: ...


@dataclass(slots=True, eq=False)
class Incoming:
    """An answer whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    _response: urllib3.BaseHTTPResponse
    _url: str
    _is_drained: bool = False

    def iter_pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives, at most 1 MiB at a time.

        Raises:
            ServerUnreachableError: the connection broke before the announced end.
        """
        try:
            while piece := self._response.read(PIECE_BYTES, decode_content=False):
                yield piece
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._broken(error) from error

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer with what comes next and return how much that is; less than its size at the end only.

        The body lands in the buffer itself: `read` of urllib3 makes two copies of it, and 60 microseconds of calls.

        Raises:
            ServerUnreachableError: the connection broke.
        """
        raw = self._raw
        try:
            size = raw.readinto(buffer)
        except (http.client.HTTPException, OSError) as error:
            raise self._broken(error) from error
        if raw.length == 0:
            self._response.release_conn()  # read to its end: the next request may have it
        return size

    def splice_into(self, pipe: int, most_bytes: int) -> int:
        """Have the kernel put what comes next into an empty pipe; return how much that is.

        0 where it has to be read: what is encrypted, or of unknown length, and the last byte or the end before it, so
        that whoever reads that is told.

        Raises:
            ServerUnreachableError: the connection broke.
        """
        line, raw = self._plain_line(), self._raw
        most_bytes = min(most_bytes, (raw.length or 1) - 1)
        if line is None or most_bytes <= 0:
            return 0
        try:
            if not self._is_drained:
                return self._pour(pipe, most_bytes)
            size = _splice(line, pipe, most_bytes)
        except (http.client.HTTPException, OSError) as error:
            raise self._broken(error) from error
        raw.length = (raw.length or 0) - size
        return size

    def _pour(self, pipe: int, most_bytes: int) -> int:
        """Put into a pipe what Python read already, looking for the end of the head: some kilobytes at most."""
        ahead = self._raw.fp.peek()
        data = bytearray(min(len(ahead), most_bytes))
        self._is_drained = len(data) == len(ahead)
        return os.write(pipe, data[: self._raw.readinto(memoryview(data))]) if data else 0

    def _plain_line(self) -> socket.socket | None:
        """Return the socket that the body comes by; None where that is encrypted, or nobody knows."""
        line: object = getattr(self._response.connection, "sock", None)
        return line if type(line) is socket.socket else None

    @property
    def _raw(self) -> _Body:
        return cast("_Body", self._response._fp)  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage, reportUnknownMemberType]

    def _broken(self, error: Exception) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"The connection to {self._url} broke before the end of the answer ({_say(error)}). Try again."
        )

    def read(self, limit_bytes: int | None = None) -> bytes:
        """Return the body, cut at `limit_bytes`."""
        pieces: list[bytes] = []
        size = 0
        for piece in self.iter_pieces():
            pieces.append(piece)
            size += len(piece)
            if limit_bytes is not None and size >= limit_bytes:
                break
        return b"".join(pieces)

    def abort(self) -> None:
        """Let another thread that reads here see the end now."""
        with suppress(OSError, ValueError, RuntimeError):  # it was over already
            self._response.shutdown()

    def close(self) -> None:
        """Give the connection back; a body that was not read to its end closes it, which is cheaper than draining."""
        self._response.close()
        self._response.release_conn()


def unreachable(url: str, error: Exception) -> ServerUnreachableError:
    """Return the named error for a connection that did not come about or broke."""
    if isinstance(error, urllib3.exceptions.SSLError):
        return ServerUnreachableError(
            f"The certificate of {url} is not trusted here ({_say(error)}). If your organisation has its own "
            "authority, set SSL_CERT_FILE to its certificate."
        )
    if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
        return ServerUnreachableError(
            f"No service answers at {url}. Is it running? Start one with `weighbridge serve`, or set "
            "WEIGHBRIDGE_URL to where yours is. What was pulled before can be read with WEIGHBRIDGE_OFFLINE=1."
        )
    return ServerUnreachableError(f"The connection to {url} broke ({_say(error)}). Try again.")


def _splice(line: socket.socket, pipe: int, most_bytes: int) -> int:
    """Move what there is, and wait for it as long as the socket says."""
    while True:
        try:
            return os.splice(line.fileno(), pipe, most_bytes, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(line, select.POLLIN)
            seconds = line.gettimeout()
            if not waiting.poll(None if seconds is None else seconds * 1000):
                raise TimeoutError("timed out") from None


def _say(error: BaseException) -> str:
    """Return the innermost reason of a connection error, without urllib3's object names."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error)
    return text.split(">: ", 1)[-1].split("Pool(", 1)[0] if text else type(error).__name__


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the `Retry-After` in seconds; the date form, which this service never sends, counts as absent."""
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None


def failure_of(incoming: Incoming, url: str, token: str | None = None) -> WeighbridgeError:
    """Return the error of a problem document, or what the status alone says where something else answered.

    Where nobody was let in, it says how to get in.
    """
    failure = _told_failure(incoming, url)
    if incoming.status != _UNAUTHORIZED:
        return failure
    way_in = f"For this service: `weighbridge login {url}`."
    if token is not None and not os.environ.get("WEIGHBRIDGE_TOKEN") and os.environ.get("WEIGHBRIDGE_TOKEN_FILE"):
        way_in = "The token is that of WEIGHBRIDGE_TOKEN_FILE: whoever writes that file must write another."
    if token is not None and token == os.environ.get("WEIGHBRIDGE_TOKEN"):
        way_in = f"The token is that of WEIGHBRIDGE_TOKEN: set another, or unset it and `weighbridge login {url}`."
    told = type(failure)(f"{failure.detail} {way_in}", **failure.extra)
    told.request_id = failure.request_id
    return told


def _told_failure(incoming: Incoming, url: str) -> WeighbridgeError:
    try:
        data = incoming.read(MAX_PROBLEM_BYTES)
    except ServerUnreachableError:
        data = b""
    finally:
        incoming.close()
    try:
        problem: Any = json.loads(data)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "code" in problem:
        return error_from_problem(cast("dict[str, Any]", problem))
    kind = _BY_STATUS.get(
        incoming.status, UnavailableError if incoming.status >= _FIRST_SERVER_ERROR else WeighbridgeError
    )
    return kind(
        f"{url} answered {incoming.status} without saying why. Is a Weighbridge service there, or does a proxy in "
        "between answer for it?"
    )
