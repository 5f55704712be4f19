"""Lists of models and versions, fetched page by page."""

import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel

from registry.client.connection import Connection
from registry.client.resolve import model_route
from registry.client.results import Listing, Model, Version
from registry.client.transport import Query, Transport
from registry.errors import InvalidRequestError, ServerUnreachableError, VersionNotFoundError
from registry.schema import AliasInfo, AliasMove, Page

ItemT = TypeVar("ItemT", bound=BaseModel)

PAGE_ITEMS = 100
MAX_EMPTY_PAGES = 100
"""In a row, each of which says that there are more."""


def iter_pages(
    transport: Transport, page: type[Page[ItemT]], path: str, query: Query, limit: int | None
) -> Iterator[ItemT]:
    """Yield the items of all pages, at most `limit`, asking for a page when its first item is wanted.

    Raises:
        ServerUnreachableError: the service names a page that it gave before, or empty ones without an end.
    """
    cursor: str | None = None
    seen: set[str] = set()
    empty = 0
    left = limit
    while left is None or left > 0:
        size = PAGE_ITEMS if left is None else min(PAGE_ITEMS, left)
        answer = transport.get(page, path, [*query, ("limit", size), ("cursor", cursor)])
        yield from itertools.islice(answer.items, left)
        cursor = answer.cursor
        if cursor is None:
            return
        empty = 0 if answer.items else empty + 1
        if cursor in seen or empty > MAX_EMPTY_PAGES:
            raise ServerUnreachableError(
                f"The list {path!r} of {transport.url} has no end. Check the URL, and ask the operator of the service."
            )
        seen.add(cursor)
        left = None if left is None else left - len(answer.items)


def list_models(
    connection: Connection,
    *,
    search: str | None = None,
    team: str | None = None,
    tags: Mapping[str, str] | None = None,
    kind: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
) -> Listing[Model]:
    """Return the models that match everything given."""
    query: list[tuple[str, str | int | None]] = [("search", search), ("team", team), ("kind", kind), ("sort", sort)]
    query += [("tag", f"{key}={value}") for key, value in (tags or {}).items()]
    return Listing(iter_pages(connection.resolver.online(), Page[Model], "models", query, limit))


def list_versions(
    connection: Connection, ref: str, *, sort: str, limit: int | None, deleted: bool = False
) -> Listing[Version]:
    """Return a model's versions."""
    return Listing(_iter_versions(connection, ref, sort, limit, deleted=deleted))


def _iter_versions(
    connection: Connection, ref: str, sort: str, limit: int | None, *, deleted: bool
) -> Iterator[Version]:
    path = model_route(connection.resolver.model(ref), "versions")
    query: Query = [("sort", sort), ("deleted", "true" if deleted else None)]
    return iter_pages(connection.resolver.online(), Page[Version], path, query, limit)


def best_version(connection: Connection, ref: str, metric: str, mode: Literal["min", "max"]) -> Version:
    """Return the version with the best value of a metric; deprecated ones do not count.

    Raises:
        VersionNotFoundError: no version has the metric; the detail names the metrics that there are.
        InvalidRequestError: the mode is neither `min` nor `max`.
    """
    if mode not in {"min", "max"}:
        raise InvalidRequestError(f"mode={mode!r}: say `min` or `max`.")
    sort = f"metrics.{metric}" if mode == "min" else f"-metrics.{metric}"
    for version in _iter_versions(connection, ref, sort, None, deleted=False):
        if metric not in version.annotations.metrics:
            break  # those without the metric come last
        if version.annotations.deprecated is None:
            return version
    recent = _iter_versions(connection, ref, "-number", PAGE_ITEMS, deleted=False)
    others = sorted({name for version in recent for name in version.annotations.metrics})
    known = f"Metrics there: {', '.join(others)}." if others else "Its versions have no metrics."
    raise VersionNotFoundError(f"No version of {ref} in use has the metric {metric!r}. {known}")


def list_aliases(connection: Connection, ref: str) -> Listing[AliasInfo]:
    """Return a model's aliases."""
    path = model_route(connection.resolver.model(ref), "aliases")
    return Listing(iter_pages(connection.resolver.online(), Page[AliasInfo], path, (), None))


def list_alias_moves(connection: Connection, ref: str, alias: str, *, limit: int | None) -> Listing[AliasMove]:
    """Return the recorded moves of an alias, the last one first."""
    path = model_route(connection.resolver.model(ref), "aliases", alias, "history")
    return Listing(iter_pages(connection.resolver.online(), Page[AliasMove], path, (), limit))


def get_alias_at(connection: Connection, ref: str, alias: str, at: datetime) -> AliasInfo:
    """Return where an alias pointed at a moment."""
    path = model_route(connection.resolver.model(ref), "aliases", alias)
    return connection.resolver.online().get(AliasInfo, path, [("at", at.isoformat())])
