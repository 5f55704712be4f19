"""Requests to a bucket that somebody without credentials may send."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that somebody without credentials may send until `expires_at` (UTC), with exactly these headers."""

    method: str
    url: str
    headers: dict[str, str]
    expires_at: datetime
