"""Where bytes live right now: runs with URLs, for whoever reads much or in parallel. Nothing may keep the answer."""

from urllib.parse import quote

from fastapi import APIRouter, Response

from api.bodies import BoundedRoute
from api.deps import CallerDep, Selector, StoresDep
from api.needs import needs
from api.responses import problems
from registry.reads import ReadPlan, ReadRun, ReadsQuery
from storage.access import Action
from storage.reads import PlannedRun, plan_reads

router = APIRouter(tags=["artifacts"], route_class=BoundedRoute)


@router.post(
    "/models/{team}/{model}/versions/{version}/reads",
    operation_id="plan_reads",
    responses=problems(416),
    **needs(Action.READ),
)
def plan(
    response: Response,
    stores: StoresDep,
    caller: CallerDep,
    team: str,
    model: str,
    version: Selector,
    query: ReadsQuery,
) -> ReadPlan:
    """Return runs that are exactly the ranges asked for: from the bucket where that is allowed, else from here."""
    number, planned = plan_reads(stores, caller, team, model, version, query)
    response.headers["Cache-Control"] = "no-store"
    here = f"/api/v1/models/{quote(team, safe='')}/{quote(model, safe='')}/versions/{number}/artifacts/"
    return ReadPlan(version=number, runs=[_describe(run, here) for run in planned])


def _describe(run: PlannedRun, here: str) -> ReadRun:
    if run.signed is None:
        url, headers, expires_at = f"{here}{quote(run.path)}?direct=false", _range(run), None
    else:
        url, headers, expires_at = run.signed.url, run.signed.headers, run.signed.expires_at
    return ReadRun(path=run.path, offset=run.offset, length=run.length, url=url, headers=headers, expires_at=expires_at)


def _range(run: PlannedRun) -> dict[str, str]:
    return {"Range": f"bytes={run.offset}-{run.offset + run.length - 1}"}
