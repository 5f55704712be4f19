"""Planned uploads: resumable, in parts over several connections, straight to a bucket where there is one."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from api.bodies import BoundedRoute
from api.deps import CallerDep, ServiceDep
from api.needs import needs
from api.planned import Completions, receive_part, upload_info
from api.responses import PART, problems
from api.routes.uploads import IdempotencyKey, location_of
from registry.schema import VersionInfo
from registry.uploads import PartRequests, PartsWanted, UploadCreate, UploadInfo
from storage.access import Action
from storage.uploads.completing import abort_upload as end_upload
from storage.uploads.parts import find_upload, request_parts
from storage.uploads.planning import plan_upload as plan

router = APIRouter(tags=["push"], route_class=BoundedRoute)
parts = APIRouter(tags=["push"])
"""Of bodies that are received as they come."""
_UPLOADS = "/models/{team}/{model}/uploads"
_UPLOAD = _UPLOADS + "/{upload_id}"
UploadId = Annotated[str, Path(max_length=64, description="as the plan says it")]
RETRY_SECONDS = 1


@router.post(_UPLOADS, status_code=201, operation_id="plan_upload", responses=problems(409, 507), **needs(Action.PUSH))
async def plan_upload(
    response: Response,
    service: ServiceDep,
    caller: CallerDep,
    team: str,
    model: str,
    create: UploadCreate,
    idempotency_key: IdempotencyKey = None,
) -> UploadInfo:
    """Plan a version whose files come in parts; each is announced with its size."""
    upload = await service.in_upload(plan, service.stores, caller, team, model, create, idempotency_key)
    route = f"/api/v1/models/{team}/{model}/uploads/{upload.id}"
    response.headers["Location"] = route
    return await service.in_upload(upload_info, service.stores, upload, route=route if upload.is_open else None)


@router.get(_UPLOAD, operation_id="get_upload", responses=problems(409), **needs(Action.PUSH))
async def get_upload(service: ServiceDep, caller: CallerDep, team: str, model: str, upload_id: UploadId) -> UploadInfo:
    """Return an upload of yours: how far it is, and which parts are missing."""
    upload = await service.in_upload(find_upload, service.stores, caller, team, model, upload_id)
    return await service.in_upload(upload_info, service.stores, upload)


@router.post(_UPLOAD + "/parts", operation_id="request_parts", responses=problems(409), **needs(Action.PUSH))
async def get_part_requests(
    service: ServiceDep, caller: CallerDep, team: str, model: str, upload_id: UploadId, wanted: PartsWanted
) -> PartRequests:
    """Return how to send parts: a URL for each, to the bucket for an hour, or to this service."""
    upload = await service.in_upload(find_upload, service.stores, caller, team, model, upload_id)
    route = f"/api/v1/models/{team}/{model}/uploads/{upload_id}"
    requests = await service.in_upload(request_parts, service.stores, upload, wanted.path, wanted.numbers, route)
    return PartRequests(parts=requests)


@parts.put(
    _UPLOAD + "/files/{position}/parts/{number}",
    status_code=204,
    operation_id="send_part",
    responses=problems(409, 507),
    **needs(Action.PUSH, **PART),
)
async def send_part(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    team: str,
    model: str,
    upload_id: UploadId,
    position: Annotated[int, Path(ge=0, lt=1 << 31, description="of the file in the plan, counted from 0")],
    number: Annotated[int, Path(ge=1, lt=1 << 31, description="of the part, counted from 1")],
) -> None:
    """Take one part of a file: exactly the bytes that the plan says. Sending it again is fine until it is complete."""
    upload = await service.in_upload(find_upload, service.stores, caller, team, model, upload_id)
    await receive_part(request, service, caller, upload, position, number)


@router.post(
    _UPLOAD + "/complete",
    status_code=201,
    operation_id="complete_upload",
    response_model=VersionInfo,
    responses={202: {"model": UploadInfo, "description": "It is being verified; complete it again."}, **problems(409)},
    **needs(Action.PUSH),
)
async def complete_upload(
    request: Request,
    response: Response,
    service: ServiceDep,
    caller: CallerDep,
    team: str,
    model: str,
    upload_id: UploadId,
) -> VersionInfo | Response:
    """Verify what came and make it a version; doing it twice gives the same one."""
    completions: Completions = request.app.state.completions
    version = await completions.complete(caller, team, model, upload_id)
    if version is None:
        upload = await service.in_upload(find_upload, service.stores, caller, team, model, upload_id)
        told = await service.in_upload(upload_info, service.stores, upload)
        where = f"/api/v1/models/{team}/{model}/uploads/{upload_id}"
        headers = {"Location": where, "Retry-After": str(RETRY_SECONDS)}
        return JSONResponse(told.model_dump(mode="json"), status_code=202, headers=headers)
    response.headers["Location"] = location_of(version)
    return version


@router.delete(_UPLOAD, status_code=204, operation_id="abort_upload", responses=problems(409), **needs(Action.PUSH))
async def abort_upload(service: ServiceDep, caller: CallerDep, team: str, model: str, upload_id: UploadId) -> None:
    """End an upload and drop what came of it."""
    await service.in_upload(end_upload, service.stores, caller, team, model, upload_id)
