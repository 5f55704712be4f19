"""The bytes of artifacts: whole or in part, as they were uploaded."""

import base64
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.deps import CallerDep, ServiceDep
from api.needs import needs
from api.ranges import read_ahead, select, start
from api.responses import problems
from storage.access import Action
from storage.blobs.base import SignedRequest
from storage.metadata.records import StoredArtifact
from storage.read import get_artifact, iter_range, iter_while_admitted, open_artifact
from storage.reads import sign_download

router = APIRouter(tags=["artifacts"])
_PATH = "/models/{team}/{model}/versions/{version}/artifacts/{path:path}"
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_ANSWERS = {206: {"description": "The range that was asked for", **_BYTES}, 304: {"description": "Not modified"}}
_ELSEWHERE = {307: {"description": "The bucket has it, for the next minutes, at `Location`"}}
Direct = Annotated[bool, Query(description="false: through the service, also where a bucket could be asked")]


@router.get(
    _PATH,
    operation_id="download_artifact",
    response_class=StreamingResponse,
    responses={200: _BYTES, **_ANSWERS, **_ELSEWHERE, **problems(416)},
    **needs(Action.READ),
)
@router.head(
    _PATH, operation_id="head_artifact", response_class=Response, responses={304: _ANSWERS[304]}, **needs(Action.READ)
)
async def download_artifact(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    team: str,
    model: str,
    version: str,
    path: str,
    direct: Direct = True,  # noqa: FBT002 - a query parameter
) -> Response:
    """Return the bytes of an artifact; honours `Range`, `If-Range` and `If-None-Match`.

    Where one object of a bucket holds nothing but an artifact of tensors, it leads there.
    """
    find = get_artifact if request.method == "HEAD" else open_artifact
    artifact = await run_in_threadpool(find, service.stores, caller, team, model, version, path)
    headers = _headers(artifact, f"{team}/{model}:{artifact.version_number}")
    size_bytes = artifact.info.size_bytes
    chosen = select(request.method, request.headers, headers["ETag"], size_bytes)
    if chosen.status == 304:  # noqa: PLR2004 - Not Modified
        return Response(status_code=304, headers=headers)
    if direct and request.method == "GET" and "if-range" not in request.headers:  # the bucket has ETags of its own
        signed = await run_in_threadpool(sign_download, service.stores, artifact, headers["Content-Disposition"])
        if signed is not None:
            return _lead_to(signed, headers)
    headers["Content-Length"] = str(chosen.length)
    if chosen.status == 206:  # noqa: PLR2004 - Partial Content
        headers["Content-Range"] = f"bytes {chosen.offset}-{chosen.offset + chosen.length - 1}/{size_bytes}"
    if request.method == "HEAD":
        return Response(status_code=chosen.status, headers=headers, media_type="application/octet-stream")
    pieces = iter_range(service.stores.blobs, artifact.extents, chosen.offset, chosen.length)
    pieces = iter_while_admitted(service.stores, caller, team, model, artifact, pieces)
    body = await start(read_ahead(pieces, service.downloads))
    return StreamingResponse(body, chosen.status, headers, media_type="application/octet-stream")


def _lead_to(signed: SignedRequest, headers: dict[str, str]) -> Response:
    kept = {"X-Weighbridge-Version": headers["X-Weighbridge-Version"], "Cache-Control": "no-store"}
    return Response(status_code=307, headers={"Location": signed.url, **kept})


def _headers(artifact: StoredArtifact, reference: str) -> dict[str, str]:
    sha256 = artifact.info.sha256.removeprefix("sha256:")
    name = artifact.info.path.rpartition("/")[2]
    return {
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Cache-Control": "private, no-cache",
        "X-Weighbridge-Version": reference,
    }
