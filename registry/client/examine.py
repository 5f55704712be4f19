"""Looking into weights without loading them: local files by the readers, versions by their manifests."""

import os
from pathlib import Path

from registry.client.connection import Connection
from registry.client.local import find_local, find_weights
from registry.client.pull import choose_weights
from registry.errors import AmbiguousWeightsError, NotFoundError
from registry.formats.inspection import Inspection
from registry.formats.source import FileSource
from registry.paths import expand_home


def inspect_file(path: str | os.PathLike[str]) -> Inspection:
    """Return what a local weight file holds.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
    """
    from registry.formats.reader import read

    with FileSource(Path(path)) as source:
        return read(source).inspection


def inspect_path(path: str | os.PathLike[str]) -> Inspection:
    """Return what a local weight file holds, or the only one of a folder, without running anything of it.

    Raises:
        NotFoundError: nothing is there.
        MalformedArtifactError: it cannot be read strictly.
        NoWeightsError, AmbiguousWeightsError: a folder holds none or several.
    """
    place = expand_home(path)
    if not place.exists():
        raise NotFoundError(f"There is no file or folder {str(place)!r}.")
    files = find_weights(place)
    _check_single(str(path), [each.name for each in files])
    return inspect_file(files[0])


def inspect_reference(connection: Connection, ref: str | os.PathLike[str]) -> Inspection:
    """Return what a local file or an artifact of a version holds.

    Raises:
        AmbiguousWeightsError: the reference means several files; the detail lists them.
        WeighbridgeError: see `Client.inspect`.
    """
    local = find_local(ref)
    if local is not None:
        return inspect_path(local)
    from registry.formats.wire import inspection_from_json

    reference = connection.resolver.reference(str(ref))
    version = connection.resolver.version(reference)
    artifacts = choose_weights(version, reference.path)
    _check_single(version.reference, [each.path for each in artifacts])
    return inspection_from_json(connection.resolver.manifest(version, artifacts[0].path).manifest)


def _check_single(what: str, names: list[str]) -> None:
    if len(names) > 1:
        raise AmbiguousWeightsError(
            f"{what} is made of {len(names)} files: {', '.join(names)}. Name one of them.", candidates=names
        )
