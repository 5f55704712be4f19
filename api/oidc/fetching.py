"""HTTP to identity providers: encrypted, bounded, without redirects. Only what an administrator named is asked."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import urllib3

from api.settings import is_loopback
from registry.client.transport import make_pools
from registry.errors import ConfigurationError, IdentityProviderUnavailableError

TIMEOUT_SECONDS = 5.0
MAX_ANSWER_BYTES = 1 << 20
_OK = 200
_SERVER_ERROR = 500

log = logging.getLogger("weighbridge.oidc")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered, in the words that Authlib knows from `requests`."""

    status_code: int
    body: bytes

    def json(self) -> Any:
        """Return the JSON in it.

        Raises:
            ValueError: there is none.
        """
        return json.loads(self.body)

    def raise_for_status(self) -> None:
        """Return when it is no failure; Authlib asks where it cannot read the answer.

        Raises:
            IdentityProviderUnavailableError: it is one of the provider.
            ValueError: it is one of the request.
        """
        if self.status_code >= _SERVER_ERROR:
            raise IdentityProviderUnavailableError(
                f"The identity provider failed (status {self.status_code}). Try again in a minute."
            )
        if self.status_code != _OK:
            raise ValueError(f"the answer is {self.status_code}")


def require_safe_url(url: object, what: str) -> str:
    """Return a URL that may be asked: `https`, or `http` on this very machine.

    Raises:
        ConfigurationError: it is none.
    """
    parts = urlsplit(url) if isinstance(url, str) else None
    is_safe = parts is not None and parts.hostname is not None and not (parts.username or parts.fragment)
    if parts is None or not is_safe or not (parts.scheme == "https" or is_plain_loopback(parts.scheme, parts.hostname)):
        raise ConfigurationError(f"{what} is {str(url)[:200]!r}, which is no https:// address.")
    return cast("str", url)


def is_plain_loopback(scheme: str, host: str | None) -> bool:
    """Return whether an address without encryption never leaves this machine."""
    return scheme == "http" and host is not None and is_loopback(host)


def ask(
    method: str, url: str, headers: Mapping[str, str] | None = None, form: Mapping[str, str] | str | None = None
) -> Answer:
    """Send a request and return the whole answer.

    Raises:
        IdentityProviderUnavailableError: none came in time, it is too large, or it leads somewhere else.
    """
    body = form if isinstance(form, str) or form is None else urlencode(form)
    pools = make_pools(url)
    try:
        response = pools.request(
            method,
            url,
            body=body,
            headers={"Accept": "application/json", **(headers or {})},
            preload_content=False,
            retries=False,
            redirect=False,
            timeout=urllib3.Timeout(total=TIMEOUT_SECONDS),
        )
        data = _read(response)
        return Answer(response.status, data)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _unavailable(url, type(error).__name__) from error
    finally:
        pools.clear()


def fetch_json(url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON object at an address.

    Raises:
        IdentityProviderUnavailableError: there is none.
    """
    answer = ask("GET", url, headers)
    if answer.status_code != _OK:
        raise _unavailable(url, f"status {answer.status_code}")
    try:
        document = answer.json()
    except (ValueError, RecursionError) as error:
        raise _unavailable(url, "no JSON") from error
    if not isinstance(document, dict):
        raise _unavailable(url, "no JSON object")
    return cast("dict[str, Any]", document)


class Session:
    """What Authlib sends its requests by."""

    def post(self, url: str, *, data: Mapping[str, str], headers: Mapping[str, str], auth: Any) -> Answer:
        """Send a form, with what says which client this is."""
        url, sent, body = auth.prepare("POST", url, dict(headers), urlencode(data))
        return ask("POST", url, sent, body)


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    """Read an answer, in no more than the time and room that it is worth."""
    deadline, data = time.monotonic() + TIMEOUT_SECONDS, b""
    while piece := response.read1(64 << 10):
        data += piece
        if len(data) > MAX_ANSWER_BYTES or time.monotonic() > deadline:
            raise urllib3.exceptions.ProtocolError("too much, or too slow")
    return data


def _unavailable(url: str, reason: str) -> IdentityProviderUnavailableError:
    host = urlsplit(url).netloc
    log.warning("The identity provider at %s did not answer as it should: %s", host, reason)
    return IdentityProviderUnavailableError(
        f"The identity provider at {host} does not answer as it should, so nobody can be let in on its word just now. "
        "Try again in a minute."
    )
