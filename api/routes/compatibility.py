"""What will load where: one version against an architecture, and the versions that would load into one."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from api.bodies import BoundedRoute
from api.deps import CallerDep, Selector, StoresDep
from api.needs import needs
from registry.matches import CheckQuery, CompatibleMatches, CompatibleQuery
from storage.access import Action
from storage.architectures import read_architecture
from storage.check import check_version
from storage.compatible import find_compatible


class ArchitectureRoute(BoundedRoute):
    """A route whose body holds an architecture: some 150 bytes a tensor."""

    max_bytes = 4 << 20


router = APIRouter(tags=["compatibility"], route_class=ArchitectureRoute)
_REPORT: dict[str, Any] = {"description": "The report", "content": {"application/json": {"schema": {"type": "object"}}}}


@router.post(
    "/models/{team}/{model}/versions/{version}/check",
    operation_id="check_version",
    response_class=JSONResponse,
    responses={200: _REPORT},
    **needs(Action.READ),
)
def check(
    stores: StoresDep, caller: CallerDep, team: str, model: str, version: Selector, query: CheckQuery
) -> JSONResponse:
    """Say what loading a version into an architecture would do: what fits, what does not, what to do."""
    target = read_architecture(query.architecture)
    wishes = query.model_dump(exclude={"architecture"})
    report = check_version(stores, caller, team, model, version, target, **wishes)
    return JSONResponse(report.to_json())


@router.post("/compatible", operation_id="find_compatible", **needs(Action.READ))
def compatible(stores: StoresDep, caller: CallerDep, query: CompatibleQuery) -> CompatibleMatches:
    """Find the versions that would load into an architecture or a submodule of it, the best first."""
    target = read_architecture(query.architecture)
    found = find_compatible(stores, caller, target, team=query.team, kind=query.kind, limit=query.limit)
    return CompatibleMatches(items=found)
