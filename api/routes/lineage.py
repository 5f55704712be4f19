"""What versions have in common, from the digests in their manifests alone."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.bodies import BoundedRoute
from api.deps import CallerDep, Selector, StoresDep
from api.needs import needs
from registry.lineage.documents import DEFAULT_LISTED, MAX_LISTED, Lineage, VersionDiff
from storage import lineage
from storage.access import Action

router = APIRouter(tags=["versions"], route_class=BoundedRoute)
_VERSION = "/models/{team}/{model}/versions/{version}"
Other = Annotated[
    str, Path(max_length=1000, description="a version of the same model, or a reference: `vision/resnet50:3`")
]
Part = Annotated[str | None, Query(max_length=2000, description="the state_dict inside the first one, a checkpoint")]
OtherPart = Annotated[str | None, Query(max_length=2000, description="the state_dict inside the other one")]
Listed = Annotated[int, Query(ge=0, le=MAX_LISTED, description="tensors listed of each group")]


@router.get(_VERSION + "/diff/{other:path}", operation_id="diff_versions", **needs(Action.READ))
def diff_versions(
    stores: StoresDep,
    caller: CallerDep,
    team: str,
    model: str,
    version: Selector,
    other: Other,
    path: Annotated[str | None, Query(max_length=1000, description="an artifact of the first version")] = None,
    part: Part = None,
    other_part: OtherPart = None,
    limit: Listed = DEFAULT_LISTED,
) -> VersionDiff:
    """Say what became of the tensors on the way from a version to another one."""
    return lineage.diff_versions(
        stores, caller, team, model, version, other, path=path, part=part, other_part=other_part, limit=limit
    )


@router.get(_VERSION + "/lineage", operation_id="get_lineage", **needs(Action.READ))
def get_lineage(stores: StoresDep, caller: CallerDep, team: str, model: str, version: Selector) -> Lineage:
    """Say how much of a version comes from its base, or from what it shares most bytes with, and what changed."""
    return lineage.get_lineage(stores, caller, team, model, version)
