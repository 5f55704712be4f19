"""Is it up, is it fit for work, and what does it measure."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.deps import ServiceDep
from api.measures import CONTENT_TYPE, Measures
from registry.errors import WeighbridgeError

router = APIRouter(tags=["health"])


class Readiness(BaseModel):
    """Whether the service can do its work, and what each part says; None is fine.

    `confinement` says which measures hold the processes that read weight files; one that does not is no reason to
    stop, and a reason to ask the platform for it (docs/operating.md).
    """

    status: Literal["ready", "not_ready"]
    checks: dict[str, str | None]
    confinement: dict[str, bool] = {}


@router.get("/healthz", operation_id="healthz")
async def healthz() -> dict[str, str]:
    """Say that the process is up."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    operation_id="readyz",
    responses={503: {"model": Readiness, "description": "Something is away; the checks say what."}},
)
def readyz(request: Request, service: ServiceDep, response: Response) -> Readiness:
    """Say whether database, blob store and scanner answer, and that the process is not about to stop."""
    stores = service.stores
    checks = {
        "catalog": _complaint(stores.catalog.check),
        "blobs": _complaint(stores.blobs.check),
        "scanner": _complaint(stores.scanner.check),
        "draining": "The process is stopping; its running requests finish." if request.app.state.is_draining else None,
    }
    confinement = {} if checks["scanner"] else stores.scanner.confinement()
    if any(checks.values()):
        response.status_code = 503
        return Readiness(status="not_ready", checks=checks, confinement=confinement)
    return Readiness(status="ready", checks=checks, confinement=confinement)


@router.get("/metrics", operation_id="metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the figures of this process for Prometheus."""
    measures: Measures = request.app.state.measures
    return Response(measures.render(), media_type=CONTENT_TYPE)


def _complaint(check: Callable[[], None]) -> str | None:
    try:
        check()
    except WeighbridgeError as error:
        return error.detail
    return None
