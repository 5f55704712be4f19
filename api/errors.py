"""How failures leave the service: one table from error class to HTTP status, one shape of answer (RFC 9457)."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.hiding import hide_secrets
from api.sender import request_id_of
from registry import errors

STATUSES: dict[type[errors.WeighbridgeError], int] = {
    errors.WeighbridgeError: 500,
    errors.InvalidRequestError: 422,
    errors.InvalidCursorError: 400,
    errors.RequestTimeoutError: 408,
    errors.NotFoundError: 404,
    errors.AccessError: 403,
    errors.AuthenticationRequiredError: 401,
    errors.ConflictError: 409,
    errors.IdempotencyKeyReusedError: 422,
    errors.PreconditionFailedError: 412,
    errors.PreconditionRequiredError: 428,
    errors.ArtifactError: 422,
    errors.IncompleteUploadError: 400,
    errors.LimitError: 413,
    errors.RateLimitedError: 429,
    errors.RangeNotSatisfiableError: 416,
    errors.UnavailableError: 503,
    errors.StorageFullError: 507,
    errors.BlobNotFoundError: 500,
    errors.BlobDamagedError: 500,
    errors.ConfigurationError: 500,
    errors.StateDictMismatchError: 422,
    errors.AmbiguousPrefixError: 422,
    errors.InternalError: 500,
}
"""The status of each class; one that is not here has that of the nearest class above it."""

PROBLEM = "application/problem+json"
RETRY_SECONDS = 5
_SERVER_ERROR = 500
_UNAVAILABLE = 503
_STANDARD = frozenset({"type", "title", "status", "code", "detail", "request_id"})
_BY_STATUS: dict[int, type[errors.WeighbridgeError]] = {
    401: errors.AuthenticationRequiredError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    413: errors.TooLargeError,
    416: errors.RangeNotSatisfiableError,
    503: errors.UnavailableError,
}

log = logging.getLogger("weighbridge.errors")


def status_of(kind: type[errors.WeighbridgeError]) -> int:
    """Return the HTTP status of a class of errors."""
    return next(STATUSES[each] for each in kind.__mro__ if each in STATUSES)


def problem(
    error: errors.WeighbridgeError, request_id: str | None, status: int | None = None, headers: Mapping[str, str] = {}
) -> JSONResponse:
    """Return the answer that describes an error. Somebody's token that they put in a wrong place is not repeated."""
    status = status or status_of(type(error))
    extra = {name: value for name, value in error.extra.items() if name not in _STANDARD}
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": error.title,
        "status": status,
        "code": error.code,
        "detail": hide_secrets(error.detail),
        "request_id": request_id,
        **extra,
    }
    return JSONResponse(document, status, headers={**headers_of(error, status), **headers}, media_type=PROBLEM)


def add_error_handlers(app: FastAPI) -> None:
    """Make every failure of the app leave as a problem document."""
    app.add_exception_handler(errors.WeighbridgeError, answer_named)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


def answer_named(request: Request, error: Exception) -> JSONResponse:
    """Return the answer to a request that ended in a failure with a name; the log is told of those of the service."""
    assert isinstance(error, errors.WeighbridgeError)  # noqa: S101 - what it is registered for
    if status_of(type(error)) >= _SERVER_ERROR:
        log.warning("%s: %s", error.code, error.detail, exc_info=error)
    return problem(error, request_id_of(request))


def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    found = error.errors()
    said = "; ".join(f"{_place(each['loc'])}: {_message(each)}" for each in found)
    unparsable = any(each["type"] == "json_invalid" for each in found)
    in_body = all(each["loc"][:1] == ("body",) for each in found)
    kind = errors.InvalidMetadataError if in_body and not unparsable else errors.InvalidRequestError
    return problem(kind(f"The request does not fit: {said}."), request_id_of(request), 400 if unparsable else None)


def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    kind = _BY_STATUS.get(error.status_code, errors.InvalidRequestError)
    details = {
        404: f"Nothing answers at {request.url.path}. The API is described at /docs.",
        405: f"{request.method} is not what {request.url.path} takes. The API is described at /docs.",
    }
    detail = details.get(error.status_code, str(error.detail))
    return problem(kind(detail), request_id_of(request), error.status_code, error.headers or {})


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _message(found: Mapping[str, Any]) -> str:
    if found["type"] == "json_invalid":
        return str(found["ctx"]["error"]).removesuffix(".")
    return str(found["msg"]).removeprefix("Value error, ")


def headers_of(error: errors.WeighbridgeError, status: int) -> dict[str, str]:
    """Return the headers that the answer of an error has whatever its form, such as when to come again."""
    if isinstance(error, errors.AuthenticationRequiredError):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, errors.RangeNotSatisfiableError) and "size_bytes" in error.extra:
        return {"Content-Range": f"bytes */{error.extra['size_bytes']}"}
    if isinstance(error, errors.RequestTimeoutError):
        return {"Connection": "close"}
    if isinstance(error, errors.RateLimitedError):
        return {"Retry-After": str(error.extra.get("retry_after", RETRY_SECONDS))}
    if status == _UNAVAILABLE or isinstance(error, errors.PublishInProgressError):
        # A running push has its key leased for much longer than it probably takes.
        return {"Retry-After": str(min(error.extra.get("retry_after", RETRY_SECONDS), RETRY_SECONDS))}
    return {}
