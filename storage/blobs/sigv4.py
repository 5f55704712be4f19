"""AWS Signature Version 4 in a URL, with signed headers: what the MinIO SDK's own signer leaves out.

Reference: "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the S3 API reference.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Who signs, and for which region; `session_token` comes with temporary keys."""

    access_key: str
    secret_key: str
    region: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"SigningKey({self.access_key!r}, region={self.region!r})"


def presign(
    key: SigningKey,
    method: str,
    url: str,
    *,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    now: datetime,
    ttl_seconds: int,
) -> str:
    """Return `url` with a signature that holds for `ttl_seconds` after `now` (UTC), for exactly these headers.

    Args:
        key: who signs.
        method: `GET`, `PUT` …
        url: scheme, host and unquoted path, without a query.
        query: further parameters of the request, unquoted.
        headers: those that the request must carry, besides `Host`.
        now: the start of the URL's life.
        ttl_seconds: the length of its life, a week at most by S3's rules.
    """
    target = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{key.region}/s3/aws4_request"
    signed = {"host": target.netloc, **{name.lower(): value.strip() for name, value in headers.items()}}
    names = ";".join(sorted(signed))
    parameters = {
        **query,
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{key.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(ttl_seconds),
        "X-Amz-SignedHeaders": names,
    }
    if key.session_token is not None:
        parameters["X-Amz-Security-Token"] = key.session_token
    path = quote(target.path or "/", safe="/-_.~")
    canonical_query = "&".join(f"{_quote(name)}={_quote(parameters[name])}" for name in sorted(parameters))
    canonical_headers = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = f"{method}\n{path}\n{canonical_query}\n{canonical_headers}\n{names}\nUNSIGNED-PAYLOAD"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(_derived_key(key, stamp[:8]), to_sign.encode(), hashlib.sha256).hexdigest()
    return f"{target.scheme}://{target.netloc}{path}?{canonical_query}&X-Amz-Signature={signature}"


def _derived_key(key: SigningKey, day: str) -> bytes:
    derived = f"AWS4{key.secret_key}".encode()
    for word in (day, key.region, "s3", "aws4_request"):
        derived = hmac.new(derived, word.encode(), hashlib.sha256).digest()
    return derived


def _quote(text: str) -> str:
    return quote(text, safe="-_.~")
