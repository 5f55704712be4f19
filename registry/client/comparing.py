"""The client's methods that say what versions and files have in common, tensor by tensor; no weights are fetched."""

import os
from collections.abc import Mapping
from pathlib import Path

from registry.client.connected import Connected
from registry.client.connection import Connection
from registry.client.examine import inspect_file
from registry.client.local import find_local, find_weights
from registry.client.pull import choose_weights
from registry.client.resolve import version_route
from registry.digest import StreamDigests
from registry.lineage.contents import TensorContent, join_contents, read_contents
from registry.lineage.differences import compare_contents
from registry.lineage.documents import DEFAULT_LISTED, Lineage, VersionDiff, describe_differences
from registry.manifest import build_manifest, iter_digested_ranges

PathLike = str | os.PathLike[str]
_PIECE_BYTES = 4 << 20


class Comparing(Connected):
    """What became of the tensors between two versions, and where a version comes from."""

    def diff(
        self,
        old: PathLike,
        new: PathLike,
        *,
        part: str | None = None,
        new_part: str | None = None,
        limit: int = DEFAULT_LISTED,
    ) -> VersionDiff:
        """Return what became of the tensors on the way from one version or local file to another.

        Versions are compared by their manifests, whatever their models and formats; local files are read once.

        Args:
            old: a version, or a local path.
            new: another one.
            part: the state_dict inside `old`, where that is a checkpoint.
            new_part: the same of `new`.
            limit: how many tensors of each group are listed; all are counted.

        Raises:
            NoWeightsError, AmbiguousWeightsError: there is no state_dict, or several.
            MalformedArtifactError: a local file cannot be read strictly.
        """
        before, contents = _read(self.connection, old, part)
        after, others = _read(self.connection, new, new_part)
        return describe_differences(before, after, compare_contents(contents, others), limit)

    def lineage(self, ref: str) -> Lineage:
        """Return how much of a version comes from its base, or from what it shares most bytes with, and what changed.

        `print(hub.lineage(ref).text)` is that in a sentence. Only versions that you may read are looked at.
        """
        reference = self.connection.resolver.reference(ref)
        return self.connection.resolver.online().get(Lineage, version_route(reference, "lineage"))


def _read(connection: Connection, ref: PathLike, part: str | None) -> tuple[str, Mapping[str, TensorContent]]:
    """Return the name of a state_dict and its tensors."""
    local = find_local(ref)
    if local is not None:
        return str(ref), join_contents([read_local(each, part) for each in find_weights(local)])
    reference = connection.resolver.reference(str(ref))
    version = connection.resolver.version(reference)
    artifacts = choose_weights(version, reference.path)
    manifests = [connection.resolver.manifest(version, each.path).manifest for each in artifacts]
    name = version.reference if reference.path is None else f"{version.reference}/{reference.path}"
    return name, join_contents([read_contents(each, part) for each in manifests])


def read_local(path: Path, part: str | None = None) -> dict[str, TensorContent]:
    """Return the tensors of a local weight file, as its manifest in the registry would have them; it is read once.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
        NoWeightsError, AmbiguousWeightsError: see `choose_part`.
    """
    inspection = inspect_file(path)
    digests = StreamDigests(list(iter_digested_ranges(inspection)), inspection.size, sha256=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digests.update(piece)
    return read_contents(build_manifest(inspection, digests), part)
