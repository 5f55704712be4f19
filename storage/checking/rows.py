"""Do the rows agree with each other: extents tile their artifacts, versions have content, manifests are whole."""

from collections.abc import Iterator

from storage.checking.findings import Finding, Kind
from storage.metadata.checked import CheckedArtifact
from storage.stores import Stores

_BATCH = 500


def check_rows(stores: Stores, *, reads_manifests: bool) -> Iterator[Finding]:
    """Yield what is wrong with extents, versions and, where that is wanted, manifests."""
    for artifact in stores.catalog.iter_artifacts():
        problem = find_gap(artifact)
        if problem is not None:
            where = f"{artifact.team}/{artifact.model}:{artifact.number}/{artifact.path}"
            yield Finding(Kind.EXTENTS_BROKEN, where, f"{problem} Its bytes cannot be put together.", (where,))
    after = 0
    while batch := stores.catalog.list_empty_versions(after, _BATCH):
        for version_id, team, model, number in batch:
            after = version_id
            yield Finding(Kind.VERSION_EMPTY, f"{team}/{model}:{number}", "It was not purged and has no artifact.")
    if reads_manifests:
        for digest in stores.catalog.iter_damaged_manifests():
            holders = stores.catalog.find_manifest_holders(digest)
            yield Finding.of_object(Kind.MANIFEST_DAMAGED, digest, "The stored manifest has another digest.", holders)


def find_gap(artifact: CheckedArtifact) -> str | None:
    """Return why the extents of an artifact do not tile it; None where they do."""
    end = 0
    for place, extent in enumerate(artifact.extents):
        if extent.position != place:
            return f"Extent {place} is missing."
        if extent.object_bytes is None:
            return f"Extent {place} lies in an object that is gone."
        if extent.team != artifact.team:
            return f"Extent {place} lies in an object of the team {extent.team}."
        if extent.offset < 0 or extent.length <= 0 or extent.offset + extent.length > extent.object_bytes:
            return f"Extent {place} lies outside its object."
        end += extent.length
    return None if end == artifact.size_bytes else f"Its extents have {end} bytes, it has {artifact.size_bytes}."
