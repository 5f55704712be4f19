"""Filling the index over architectures for versions that were published before there was one: revision 0003.

The tables are named here as that revision has them, whatever becomes of them later.
"""

import json
import zlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from registry.errors import MalformedArtifactError
from registry.formats.inspection import Inspection
from registry.formats.wire import inspection_from_json
from storage.architectures import find_uses
from storage.metadata.records import NewArchitecture

_BATCH = 100
_VERSIONS = sa.table(
    "versions", sa.column("id"), sa.column("model_id"), sa.column("weights", sa.JSON()), sa.column("purged_at")
)
_ARTIFACTS = sa.table(
    "artifacts", sa.column("version_id"), sa.column("position"), sa.column("path"), sa.column("manifest_digest")
)
_MANIFESTS = sa.table("manifests", sa.column("digest"), sa.column("compressed", sa.LargeBinary()))
_ARCHITECTURES = sa.table(
    "architectures",
    sa.column("id"),
    sa.column("digest"),
    sa.column("weight_count"),
    sa.column("document", sa.LargeBinary()),
)
_MARKS = sa.table("architecture_marks", sa.column("mark"), sa.column("architecture_id"), sa.column("count"))
_USES = sa.table(
    "architecture_uses",
    sa.column("version_id"),
    sa.column("position"),
    sa.column("architecture_id"),
    sa.column("model_id"),
    sa.column("path"),
    sa.column("part"),
)


def fill_index(connection: Connection) -> None:
    """Read the manifests of every version, one version at a time, and write what the index keeps of them."""
    for version in _iter_versions(connection):
        inspections = _inspections(connection, version.id)
        uses = find_uses(inspections, [path for path in version.weights if path in inspections])
        rows = [
            {
                "version_id": version.id,
                "position": position,
                "architecture_id": _ensure(connection, use.architecture),
                "model_id": version.model_id,
                "path": use.path,
                "part": use.part,
            }
            for position, use in enumerate(uses)
        ]
        if rows:
            connection.execute(sa.insert(_USES), rows)


def _iter_versions(connection: Connection) -> Iterator[Any]:
    last = 0
    while True:
        query = sa.select(_VERSIONS).where(_VERSIONS.c.id > last, _VERSIONS.c.purged_at.is_(None))
        found = connection.execute(query.order_by(_VERSIONS.c.id).limit(_BATCH)).all()
        yield from found
        if len(found) < _BATCH:
            return
        last = found[-1].id


def _inspections(connection: Connection, version_id: int) -> dict[str, Inspection]:
    query = (
        sa.select(_ARTIFACTS.c.path, _MANIFESTS.c.compressed)
        .join(_MANIFESTS, _MANIFESTS.c.digest == _ARTIFACTS.c.manifest_digest)
        .where(_ARTIFACTS.c.version_id == version_id)
        .order_by(_ARTIFACTS.c.position)
    )
    found: dict[str, Inspection] = {}
    for path, compressed in connection.execute(query):
        try:
            found[path] = inspection_from_json(json.loads(zlib.decompress(compressed)))
        except (MalformedArtifactError, ValueError, zlib.error):
            continue  # a version that cannot be indexed must not keep the others from being migrated
    return found


def _ensure(connection: Connection, architecture: NewArchitecture) -> int:
    query = sa.select(_ARCHITECTURES.c.id).where(_ARCHITECTURES.c.digest == architecture.digest)
    known = connection.execute(query).scalar()
    if known is not None:
        return known
    values = {
        "digest": architecture.digest,
        "weight_count": architecture.weight_count,
        "document": architecture.document,
    }
    connection.execute(sa.insert(_ARCHITECTURES).values(values))
    found: int = connection.execute(query).scalar_one()
    rows = [{"mark": mark, "architecture_id": found, "count": count} for mark, count in architecture.marks.items()]
    connection.execute(sa.insert(_MARKS), rows)
    return found
