"""What routes ask for: the service, its stores, the caller, preconditions, and what stands in queries."""

import re
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from fastapi import Depends, Path, Query, Request

from api.auth import authenticate
from api.service import Service
from registry.errors import InvalidRequestError, PreconditionRequiredError
from storage.access import Caller
from storage.metadata.aliases import Expected
from storage.stores import Stores

_REVISION = re.compile(r'\s*(?:W/)?"(\d{1,18})"\s*')


# These are coroutines so that FastAPI does not spend a thread on each.
async def get_service(request: Request) -> Service:
    """Return the running service."""
    service: Service = request.app.state.service
    return service


async def get_stores(service: Annotated[Service, Depends(get_service)]) -> Stores:
    """Return the stores that use cases work on."""
    return service.stores


async def get_caller(request: Request, service: Annotated[Service, Depends(get_service)]) -> Caller:
    """Return who asks; looked up once a request."""
    state = request.scope.setdefault("state", {})
    if "caller" not in state:
        state["caller"] = await authenticate(request, service)
    caller: Caller = state["caller"]
    return caller


async def get_tags(
    tag: Annotated[list[str] | None, Query(description="`key=value`; may repeat")] = None,
) -> dict[str, str]:
    """Return the tags to filter by.

    Raises:
        InvalidRequestError: one has no `=`.
    """
    pairs = [each.partition("=") for each in tag or []]
    if any(not sign for _, sign, _ in pairs):
        raise InvalidRequestError("Filter by a tag as `tag=key=value`.")
    return {key: value for key, _, value in pairs}


def in_utc(moment: datetime | None) -> datetime | None:
    """Return a moment in UTC; one without a zone is meant so.

    Raises:
        InvalidRequestError: it lies beyond what a calendar holds.
    """
    if moment is None or moment.tzinfo is None:
        return moment and moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequestError("That moment lies beyond the years 1 to 9999.") from None


async def get_expected_revision(request: Request) -> Expected:
    """Return which revision the caller expects: from `If-Match`, or `absent` for `If-None-Match: *`.

    Raises:
        PreconditionRequiredError: the request says neither.
        InvalidRequestError: it says something else.
    """
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if none_match is not None and none_match.strip() == "*" and match is None:
        return "absent"
    if match is None:
        raise PreconditionRequiredError(
            'Say what you expect to change: `If-Match: "REVISION"` with the revision that you saw (it is the ETag), or '
            "`If-None-Match: *` for something new. Otherwise somebody's change could be lost."
        )
    if match.strip() == "*":
        return "any"
    revision = _REVISION.fullmatch(match)
    if revision is None:
        raise InvalidRequestError('`If-Match` takes one revision in quotes, as in `If-Match: "3"`.')
    return int(revision[1])


ServiceDep: TypeAlias = Annotated[Service, Depends(get_service)]
StoresDep: TypeAlias = Annotated[Stores, Depends(get_stores)]
CallerDep: TypeAlias = Annotated[Caller, Depends(get_caller)]
TagsDep: TypeAlias = Annotated[dict[str, str], Depends(get_tags)]
ExpectedDep: TypeAlias = Annotated[Expected, Depends(get_expected_revision)]
MAX_SELECTOR_LENGTH = 200
Selector: TypeAlias = Annotated[
    str, Path(max_length=MAX_SELECTOR_LENGTH, description="a number, an alias, `latest` or `sha256:…`")
]
Cursor: TypeAlias = Annotated[str | None, Query(max_length=2000, description="continues after the page that gave it")]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=1000, description="items of a page")]
