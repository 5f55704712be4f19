"""The import itself: find or fetch, describe, and publish, unless the same is there already."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.client.cache import hash_file
from registry.client.connection import Connection
from registry.client.listing import list_versions
from registry.client.local import Collected, collect
from registry.client.push import push_collected
from registry.client.results import Version
from registry.client.tiling import with_digest
from registry.client.transfer import OutgoingFile
from registry.errors import ModelNotFoundError
from registry.importing.find import Finder
from registry.importing.found import Found
from registry.importing.sources import Source, model_name

COMPARED_VERSIONS = 100
"""The newest versions of a model that an import is compared with."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes:
        version: the new one, or the one that was there.
        is_new: whether it was published just now.
        notices: what the user should know, as sentences.
    """

    version: Version
    is_new: bool
    notices: list[str] = field(default_factory=list[str])


def import_source(
    connection: Connection,
    source: Source,
    ref: str | None = None,
    *,
    sha256: str | None = None,
    mirror: str | None = None,
    details: dict[str, Any] | None = None,
) -> Imported:
    """Publish what a source names, or say which version holds it already.

    Args:
        connection: the way to the service.
        source: what to import.
        ref: the model; by default the source's own name in the caller's team.
        sha256: the hexadecimal SHA-256 that a URL's file must have.
        mirror: URL that stands for the hosts of torchvision, timm and the Hub.
        details: further members of `VersionCreate` (`aliases`, `tags`).

    Raises:
        NotFoundError: the source is not there, or is not in the cache that was named.
        DigestMismatchError: a file is not what its name or publisher says.
        InvalidRequestError: the source gives the model no name, or may not be fetched.
        UnsafeArtifactError, MalformedArtifactError: the service refused a file; nothing was stored.
        WeighbridgeError: see `Client.push`.
    """
    reference = connection.resolver.model(ref or model_name(source))
    model = f"{reference.team}/{reference.model}"
    finder = Finder(connection, sha256=sha256, mirror=mirror)
    found = finder.find(source)
    collected = _collect(found)
    there = _find_same(connection, model, found, collected)
    if there is not None:
        return Imported(there, is_new=False, notices=found.notices)
    given = dict(details or {})
    metadata = {
        **given,
        "metrics": found.metrics,
        "tags": {**found.tags, **given.get("tags", {})},
        "builder": found.builder,
        "pretrained_cfg": found.pretrained_cfg,
        "origin": found.origin,
    }
    version = push_collected(connection, model, collected, metadata)
    return Imported(version, is_new=True, notices=[*found.notices, *version.notices])


def _collect(found: Found) -> Collected:
    if found.folder is not None:
        collected = collect([found.folder])
        found.notices += collected.notices
        return Collected([with_digest(each) for each in collected.files])
    return Collected([_outgoing(path, file) for path, file in found.files.items()])


def _outgoing(path: str, file: Path) -> OutgoingFile:
    return OutgoingFile(path, file, file.stat().st_size, hash_file(file))


def _find_same(connection: Connection, model: str, found: Found, collected: Collected) -> Version | None:
    """Return the version that holds these files and came from there."""
    try:
        versions = list_versions(connection, model, sort="-number", limit=COMPARED_VERSIONS)
    except ModelNotFoundError:
        return None
    for version in versions:
        same_origin = version.origin is not None and version.origin.source == found.origin.source
        artifacts = sorted(version.artifacts, key=lambda each: each.path)
        files = sorted(collected.files, key=lambda each: each.path)
        if same_origin and len(artifacts) == len(files) and all(map(OutgoingFile.is_same, files, artifacts)):
            return version
    return None
