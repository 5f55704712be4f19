"""Pushes in one request: a file as the body, or several as a form."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response

from api.deps import CallerDep, ServiceDep
from api.metadata import read_fields, read_repr_digest
from api.multipart import receive_form
from api.needs import needs
from api.receive import check_announced_size, receive_body, receiving
from api.responses import FILE_PUSH, FORM_PUSH, problems
from registry.names import check_path
from registry.schema import VersionInfo
from storage.access import Action

router = APIRouter(tags=["push"])
IdempotencyKey = Annotated[str | None, Header(description="makes a repeated push return the first one's version")]
_FAILURES = problems(409, 507)


@router.put(
    "/models/{team}/{model}/upload/{filename:path}",
    status_code=201,
    operation_id="upload_file",
    responses=_FAILURES,
    **needs(Action.PUSH, **FILE_PUSH),
)
async def upload_file(
    request: Request,
    response: Response,
    service: ServiceDep,
    caller: CallerDep,
    team: str,
    model: str,
    filename: Annotated[str, Path(description="the path of the artifact")],
    idempotency_key: IdempotencyKey = None,
) -> VersionInfo:
    """Push the body as the only file of a new version; metadata stands in the query: `metric.top1=0.8`."""
    path = check_path(filename)
    fields = [*request.query_params.multi_items()]
    if sha256 := read_repr_digest(request.headers.get("repr-digest")):
        fields.append(("sha256", sha256))
    metadata = read_fields(fields, path=path)
    check_announced_size(request, service, path)
    async with receiving(request, service, caller, team, model, key=idempotency_key) as receiver:
        await receiver.check(metadata)
        await receive_body(receiver, request, path, service.settings.idle_seconds)
        version = await receiver.publish(metadata)
    response.headers["Location"] = location_of(version)
    return version


@router.post(
    "/models/{team}/{model}/versions",
    status_code=201,
    operation_id="push_version",
    responses=_FAILURES,
    **needs(Action.PUSH, **FORM_PUSH),
)
async def push_version(
    request: Request,
    response: Response,
    service: ServiceDep,
    caller: CallerDep,
    team: str,
    model: str,
    idempotency_key: IdempotencyKey = None,
) -> VersionInfo:
    """Push the files of a form as a new version; other fields are metadata, in any order."""
    async with receiving(request, service, caller, team, model, key=idempotency_key) as receiver:
        metadata = await receive_form(receiver, request, service.settings.idle_seconds)
        version = await receiver.publish(metadata)
    response.headers["Location"] = location_of(version)
    return version


def location_of(version: VersionInfo) -> str:
    """Return the path of a version."""
    return f"/api/v1/models/{version.team}/{version.model}/versions/{version.number}"
