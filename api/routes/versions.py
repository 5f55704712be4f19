"""Versions: look up, list, annotate, delete, restore, purge; their tensor manifests."""

import zlib
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api.bodies import BoundedRoute
from api.deps import CallerDep, Cursor, ExpectedDep, Limit, Selector, StoresDep, TagsDep
from api.needs import needs
from api.responses import problems
from registry.errors import PreconditionFailedError
from registry.schema import AnnotationsUpdate, Page, PurgeCreate, PurgeInfo, VersionInfo, VersionManifest
from storage import read, versions
from storage.access import Action

router = APIRouter(tags=["versions"], route_class=BoundedRoute)
_VERSIONS = "/models/{team}/{model}/versions"
_VERSION = _VERSIONS + "/{version}"
_NUMBER = _VERSIONS + "/{number}"
Number = Annotated[int, Path(ge=1, le=(1 << 63) - 1)]


@router.get(_VERSIONS, operation_id="list_versions", **needs(Action.READ))
def list_versions(
    stores: StoresDep,
    caller: CallerDep,
    tags: TagsDep,
    team: str,
    model: str,
    sort: Annotated[str, Query(max_length=300)] = "-number",
    deleted: Annotated[bool, Query(description="deleted versions too")] = False,  # noqa: FBT002 - a query parameter
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[VersionInfo]:
    """List versions, sorted by `number`, `created` or `metrics.NAME`; a `-` turns the order round."""
    return versions.list_versions(
        stores, caller, team, model, sort=sort, cursor=cursor, limit=limit, include_deleted=deleted, tags=tags
    )


@router.get(_VERSION, operation_id="get_version", **needs(Action.READ))
def get_version(
    stores: StoresDep,
    caller: CallerDep,
    response: Response,
    team: str,
    model: str,
    version: Selector,
    deleted: Annotated[bool, Query(description="also when it is deleted")] = False,  # noqa: FBT002 - a query parameter
) -> VersionInfo:
    """Return a version; the ETag is the revision of its annotations."""
    found = read.get_version(stores, caller, team, model, version, include_deleted=deleted)
    response.headers["ETag"] = f'"{found.annotations.revision}"'
    return found


@router.patch(_VERSION, operation_id="annotate_version", responses=problems(412, 428), **needs(Action.ANNOTATE))
def annotate_version(
    stores: StoresDep,
    caller: CallerDep,
    response: Response,
    expected: ExpectedDep,
    team: str,
    model: str,
    version: Selector,
    update: AnnotationsUpdate,
) -> VersionInfo:
    """Change annotations; needs `If-Match: "REVISION"`. What is left out stays, null removes."""
    if expected == "absent":
        raise PreconditionFailedError("The version is there. Say which revision you saw: `If-Match`.")
    revision = expected if isinstance(expected, int) else None
    changed = versions.annotate(stores, caller, team, model, version, update, revision)
    response.headers["ETag"] = f'"{changed.annotations.revision}"'
    return changed


@router.delete(_VERSION, operation_id="delete_version", responses=problems(409), **needs(Action.DELETE))
def delete_version(
    stores: StoresDep,
    caller: CallerDep,
    team: str,
    model: str,
    version: Selector,
    force: Annotated[bool, Query(description="also when others name it as their base")] = False,  # noqa: FBT002 - a query parameter
) -> VersionInfo:
    """Hide a version and keep its bytes for the grace period; `restore` brings it back."""
    return versions.delete_version(stores, caller, team, model, version, is_forced=force)


@router.post(_NUMBER + "/restore", operation_id="restore_version", responses=problems(409), **needs(Action.DELETE))
def restore_version(stores: StoresDep, caller: CallerDep, team: str, model: str, number: Number) -> VersionInfo:
    """Show a deleted version again."""
    return versions.restore_version(stores, caller, team, model, number)


@router.post(_NUMBER + "/purge", operation_id="purge_version", responses=problems(409), **needs(Action.PURGE))
def purge_version(
    stores: StoresDep, caller: CallerDep, team: str, model: str, number: Number, purge: PurgeCreate
) -> PurgeInfo:
    """Remove the content of a deleted version for good; its number stays taken."""
    purged = versions.purge_version(stores, caller, team, model, number, purge.reason, is_live=purge.now)
    return PurgeInfo.model_validate(asdict(purged))


@router.get(_VERSION + "/manifest", operation_id="get_manifest", **needs(Action.READ))
def get_manifest(
    stores: StoresDep,
    caller: CallerDep,
    team: str,
    model: str,
    version: Selector,
    path: Annotated[str | None, Query(max_length=1000, description="an artifact; else the state_dict's")] = None,
) -> VersionManifest:
    """Return every tensor of the version's state_dict, or of one artifact."""
    return read.get_manifest(stores, caller, team, model, version, path)


@router.get(
    _VERSION + "/manifests/{path:path}",
    operation_id="get_stored_manifest",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    **needs(Action.READ),
)
def get_stored_manifest(
    request: Request, stores: StoresDep, caller: CallerDep, team: str, model: str, version: Selector, path: str
) -> Response:
    """Return the tensor manifest of an artifact byte for byte: canonical JSON, whose SHA-256 is the ETag.

    It is stored compressed, and sent so to whoever accepts `deflate`.
    """
    digest, stored = read.get_stored_manifest(stores, caller, team, model, version, path)
    headers = {"ETag": f'"{digest.removeprefix("sha256:")}"', "Cache-Control": "private", "Vary": "Accept-Encoding"}
    accepted = {each.strip().lower() for each in request.headers.get("accept-encoding", "").split(",")}
    if "deflate" in accepted:
        return Response(stored, headers=headers | {"Content-Encoding": "deflate"}, media_type="application/json")
    return Response(zlib.decompress(stored), headers=headers, media_type="application/json")
