"""Who sent a request, as far as the connection tells: the address, and the id of the request."""

from fastapi import Request


def address_of(request: Request) -> str | None:
    """Return the address that a request came from, as the proxies that are trusted tell it."""
    return request.client.host if request.client else None


def request_id_of(request: Request) -> str | None:
    """Return the id of a request: its answer and the log carry it, too."""
    return request.scope.get("state", {}).get("request_id")
