"""A version's tensors as one safetensors stream, whatever file they were pushed in."""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.deps import CallerDep, Selector, ServiceDep
from api.needs import needs
from api.ranges import answer_selected, select
from api.responses import problems
from storage.access import Action
from storage.projected import Projection, iter_projection
from storage.projection import ProjectionQuery, open_projection
from storage.read import iter_while_admitted

router = APIRouter(tags=["artifacts"])
MAX_PATTERNS = 20
Pattern = Annotated[str, Query(max_length=1000)]
Include = Annotated[
    list[Pattern] | None, Query(max_length=MAX_PATTERNS, description="only tensors with such names, as `layer4.*`")
]
Exclude = Annotated[list[Pattern] | None, Query(max_length=MAX_PATTERNS, description="no tensors with such names")]
_PATH = "/models/{team}/{model}/versions/{version}/state_dict.safetensors"
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_ANSWERS = {206: {"description": "The range that was asked for", **_BYTES}, 304: {"description": "Not modified"}}


@router.get(
    _PATH,
    operation_id="project_version",
    response_class=StreamingResponse,
    responses={200: _BYTES, **_ANSWERS, **problems(416)},
    **needs(Action.READ),
)
@router.head(
    _PATH, operation_id="head_projection", response_class=Response, responses={304: _ANSWERS[304]}, **needs(Action.READ)
)
async def project_version(
    request: Request,
    service: ServiceDep,
    caller: CallerDep,
    team: str,
    model: str,
    version: Selector,
    include: Include = None,
    exclude: Exclude = None,
    part: Annotated[str | None, Query(max_length=2000, description="the state_dict inside a checkpoint")] = None,
    path: Annotated[str | None, Query(max_length=1000, description="an artifact; else the state_dict's")] = None,
) -> Response:
    """Return the version's tensors as safetensors, whatever they were pushed as; honours conditions and ranges.

    Only contiguous dense tensors; others are named in the error `not_projectable`. Nothing but tensors is in it.
    """
    query = ProjectionQuery(path, part, include or (), exclude or ())
    projected = await run_in_threadpool(open_projection, service.stores, caller, team, model, version, query)
    headers = _headers(projected, team, model)
    chosen = select(request.method, request.headers, headers["ETag"], projected.size_bytes)

    def open_pieces() -> Iterator[bytes]:
        pieces = iter_projection(service.stores.blobs, projected, chosen.offset, chosen.length)
        return iter_while_admitted(service.stores, caller, team, model, projected.strictest, pieces)

    return await answer_selected(request, chosen, headers, open_pieces, service.downloads)


def _headers(projected: Projection, team: str, model: str) -> dict[str, str]:
    name = f"{model}-{projected.number}.safetensors"
    return {
        "ETag": f'"{projected.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Cache-Control": "private, no-cache",
        "X-Weighbridge-Version": f"{team}/{model}:{projected.number}",
    }
