"""What the OpenAPI document says of failures and bodies that FastAPI cannot see in the routes' types."""

from typing import Any, cast

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from api.errors import PROBLEM

_MEANINGS = {
    400: "The request cannot be read, or broke off.",
    401: "The service needs its token.",
    403: "The caller may not do this.",
    404: "There is no such thing; the detail says what there is.",
    408: "The rest of the body did not come in time.",
    409: "The state of the registry does not allow this now.",
    412: "Somebody changed it since; the detail says who and when.",
    413: "It is larger than the service takes.",
    416: "The range begins past the end.",
    422: "What was sent does not fit, or the file is refused.",
    428: "`If-Match` or `If-None-Match` is needed.",
    429: "Too many requests, or uploads at once; `Retry-After` says when to come again.",
    503: "Something that is needed is away; try again later.",
    507: "No room left; nothing was kept.",
}
COMMON_FAILURES = (400, 401, 403, 404, 408, 413, 422, 429, 503)
"""What any route may answer."""
_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}


def _query(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": description}


FILE_PUSH: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BINARY}}},
    "parameters": [
        _query("metric.NAME", "A metric, a finite number; NAME is free."),
        _query("tag.NAME", "A tag; NAME is free."),
        _query("description", "Text for people."),
        _query("base", "The version that this one was fine-tuned from, as `team/model:3`."),
        _query("alias", "An alias to move to the new version in the same step; may repeat."),
        _query("primary", "Which artifact is the state_dict, when there are several."),
        _query("sha256", "The digest that is expected; other bytes are refused. `Repr-Digest` says the same."),
    ],
}
"""The body and query of a push of one file."""
PART: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BINARY}}},
}
"""The body of a part."""
FORM_PUSH: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": _BINARY,
                            "description": "The files, under any field name; their file names become paths.",
                        },
                        "metadata": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "All metadata as one JSON object; or fields as in the query of upload_file.",
                        },
                    },
                    "additionalProperties": {"type": "string"},
                }
            }
        },
    }
}
"""The body of a push of several files."""


class Problem(BaseModel):
    """A failure (RFC 9457). `code` never changes; further members depend on it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of failures, for `responses` of a route.

    By reference: for each model of each route, FastAPI would make a validator that nobody ever calls.
    """
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


def document(app: FastAPI) -> None:
    """Make the app describe its failures, and its token."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = generate()
            schemas = {**described["components"]["schemas"], "Problem": Problem.model_json_schema()}
            described["components"]["schemas"] = dict(sorted(schemas.items()))
            schemes = described["components"].setdefault("securitySchemes", {})
            schemes["token"] = {"type": "http", "scheme": "bearer", "description": "Where the service asks for one."}
            described["security"] = [{"token": []}, {}]
        return cast("dict[str, Any]", app.openapi_schema)

    app.openapi = openapi
