"""The two cookies of single sign-on: what a sign-in that is under way must find again, and the session."""

import base64
import json
import re
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response

from registry.errors import InvalidRequestError, PermissionDeniedError

ATTEMPT_SECONDS = 600
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1000}")
"""A path on this very host. Browsers read `//`, `/\\` and blanks between in ways of their own."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that is under way. It is kept by the browser alone, so any replica can end it.

    Attributes:
        state: comes back with the browser: the answer belongs to this browser's question.
        nonce: comes back in the ID token: it was made for this question.
        verifier: what the code is worth nothing without (PKCE, RFC 7636).
        next: a path on this host to go on to; empty for the page of sign-ins.
    """

    state: str
    nonce: str
    verifier: str
    next: str


class Cookies:
    """Sets, reads and removes them.

    Args:
        public_url: where browsers reach the service.
    """

    def __init__(self, public_url: str) -> None:
        self._origin = public_url
        self._secure = urlsplit(public_url).scheme == "https"
        # A browser takes `__Host-` from this very host and over TLS only, so no other host of the domain can plant one.
        prefix = "__Host-" if self._secure else ""
        self._attempt = f"{prefix}weighbridge_sign_in"
        self._session = f"{prefix}weighbridge_session"

    def session(self, request: Request) -> str | None:
        """Return the session that a request comes with."""
        return request.cookies.get(self._session) or None

    def set_session(self, response: Response, token: str, seconds: int) -> None:
        """Let the browser keep a session."""
        self._set(response, self._session, token, seconds)

    def attempt(self, request: Request) -> Attempt | None:
        """Return the sign-in that this browser began, if it did."""
        try:
            known: Any = json.loads(base64.urlsafe_b64decode(request.cookies.get(self._attempt, "")))
            found = Attempt(*(str(known[member]) for member in ("state", "nonce", "verifier", "next")))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return found if found.state and found.nonce and found.verifier else None

    def set_attempt(self, response: Response, attempt: Attempt) -> None:
        """Let the browser keep what the end of its sign-in must find again."""
        value = base64.urlsafe_b64encode(json.dumps(asdict(attempt)).encode()).decode()
        self._set(response, self._attempt, value, ATTEMPT_SECONDS)

    def forget_attempt(self, response: Response) -> None:
        """Let the browser forget a sign-in: each ends once."""
        self._set(response, self._attempt, "", 0)

    def forget_session(self, response: Response) -> None:
        """Let the browser forget its session."""
        self._set(response, self._session, "", 0)

    def require_same_origin(self, request: Request) -> None:
        """Return when a request that a cookie answers for changes nothing, or comes from a page of this service.

        Raises:
            PermissionDeniedError: another site may have made the browser send it.
        """
        if request.method in _SAFE_METHODS:
            return
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        agree = site in {None, "same-origin"} and origin in {None, self._origin}
        if agree and (site is not None or origin is not None):
            return
        raise PermissionDeniedError(
            "A session may change things from this service's own pages only, and this request does not say that it "
            "comes from one. Programs send a token: `Authorization: Bearer …`."
        )

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(name, value, max_age=seconds, path="/", secure=self._secure, httponly=True, samesite="lax")


def check_next(path: str) -> str:
    """Return a path to go on to after signing in, if it is one on this host.

    Raises:
        InvalidRequestError: it may lead somewhere else.
    """
    if path and _LOCAL_PATH.fullmatch(path) is None:
        raise InvalidRequestError("`next` takes a path of this service, such as /docs, and no other address.")
    return path
