"""The bytes of artifacts: whole or in part, as they were uploaded."""

import base64
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.byteranges import find_ranges, frame
from api.deps import CallerDep, ServiceDep
from api.needs import needs
from api.ranges import answer_selected, select
from api.responses import problems
from api.service import Service
from registry.formats.source import ByteRange
from storage.access import Action
from storage.assembled import read_ranges
from storage.blobs.base import FilePiece, SignedRequest
from storage.metadata.records import StoredArtifact
from storage.read import get_artifact, iter_range, iter_range_of_files, iter_while_admitted, open_artifact
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

    Where one object of a bucket holds nothing but an artifact of tensors, it leads there. Several ranges, which buckets
    do not answer, are answered here as `multipart/byteranges`.
    """
    find = get_artifact if request.method == "HEAD" else open_artifact
    artifact = await run_in_threadpool(find, service.stores, caller, team, model, version, path)
    headers = _headers(artifact, f"{team}/{model}:{artifact.version_number}")
    chosen = select(request.method, request.headers, headers["ETag"], artifact.info.size_bytes)
    if chosen.status == HTTPStatus.OK and request.method == "GET":
        several = find_ranges(request.headers, headers["ETag"], artifact.info.size_bytes)
        if several:
            return await _answer_several(service, artifact, headers, several)
    asks_bytes = request.method == "GET" and chosen.status != HTTPStatus.NOT_MODIFIED
    if direct and asks_bytes and "if-range" not in request.headers:  # the bucket has ETags of its own
        signed = await run_in_threadpool(sign_download, service.stores, artifact, headers["Content-Disposition"])
        if signed is not None:
            return _lead_to(signed, headers)

    def open_pieces() -> Iterator[bytes]:
        pieces = iter_range(service.stores.blobs, artifact.extents, chosen.offset, chosen.length)
        return iter_while_admitted(service.stores, caller, team, model, artifact, pieces)

    def open_files() -> Iterator[bytes | FilePiece]:
        pieces = iter_range_of_files(service.stores.blobs, artifact.extents, chosen.offset, chosen.length)
        return iter_while_admitted(service.stores, caller, team, model, artifact, pieces)

    in_files = open_files if service.stores.blobs.streams_files else None
    return await answer_selected(request, chosen, headers, open_pieces, service.downloads, open_files=in_files)


async def _answer_several(
    service: Service, artifact: StoredArtifact, headers: dict[str, str], ranges: Sequence[ByteRange]
) -> Response:
    framed = frame(ranges, artifact.info.size_bytes, "application/octet-stream")
    contents = await run_sync(read_ranges, service.stores.blobs, artifact.extents, ranges, limiter=service.downloads)
    told = {**headers, "Content-Length": str(framed.length)}
    return StreamingResponse(framed.iter_body(contents), HTTPStatus.PARTIAL_CONTENT, told, framed.media_type)


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
