"""The weights of a version for whoever reads them: what the cache holds of any version is not fetched again."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from registry.client.connection import Connection
from registry.client.local import find_weights
from registry.client.progress import progress_bar
from registry.client.pull import check_pin, choose_weights, complete, fetch, find_unversioned, refuse_offline, resolve
from registry.client.taking import Take
from registry.errors import ConfigurationError, WeighbridgeError
from registry.formats.reader import uncollected
from registry.pieces import WeightFile
from registry.schema import ArtifactInfo, VersionInfo
from registry.state_dict import select_names

ResultT = TypeVar("ResultT")

ATTEMPTS = 3
"""To use files of the cache that somebody else removes meanwhile."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tensors of a state_dict are wanted.

    Attributes:
        part: the state_dict inside a checkpoint.
        include: glob patterns of names; none for all.
        exclude: glob patterns of names to leave out.
        names: the names, where they are known exactly.
        verify: read what is used of the cache again, and compare its digests first.
    """

    part: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    names: frozenset[str] | None = None
    verify: bool = False


def use_weights(
    connection: Connection,
    ref: str | os.PathLike[str],
    version: int | str | None,
    wanted: Wanted,
    use: Callable[[Sequence[WeightFile]], ResultT],
) -> ResultT:
    """Return what `use` makes of the files of a state_dict: local ones, or what is wanted of a version's.

    Raises:
        NoWeightsError, AmbiguousWeightsError: the version or folder holds none, or several to choose from.
        InvalidRequestError: a pattern matches no name.
        WeighbridgeError: as `fetch`, and what `use` raises.
    """
    local = find_unversioned(ref, version)
    if local is not None:
        return use(find_weights(local))
    reference = complete(connection, str(ref), version)
    found = resolve(connection, reference)
    chosen = choose_weights(found, reference.path)
    if reference.selector.startswith("sha256:"):  # a pin is of the whole file
        files = fetch(connection, found, chosen, verify=wanted.verify)
        check_pin(reference, found, dict(zip((each.sha256 for each in chosen), files, strict=True)))
        return use(files)
    return use_artifacts(connection, found, chosen, wanted, use)


def use_artifacts(
    connection: Connection,
    version: VersionInfo,
    artifacts: Sequence[ArtifactInfo],
    wanted: Wanted,
    use: Callable[[Sequence[WeightFile]], ResultT],
) -> ResultT:
    """Return what `use` makes of the artifacts of a state_dict; again, when the cache lost some of it meanwhile.

    Raises:
        ConfigurationError: the cache loses it again and again.
        WeighbridgeError: as `fetch`, and what `use` raises.
    """
    for _ in range(ATTEMPTS):
        try:
            takes = _bring(connection, version, artifacts, wanted)
        except FileNotFoundError:
            continue
        with uncollected():  # once for both: when that ends, all that they made is looked through
            try:
                files = _gather(takes)
            except FileNotFoundError:
                continue
            sizes = _sizes(files, artifacts)
            try:
                return use(files)
            except (OSError, WeighbridgeError):
                if _are_there(sizes):
                    raise
    raise ConfigurationError(
        f"Files of the cache {connection.cache.folder} went or changed while they were read, {ATTEMPTS} times in a "
        "row. Is somebody pruning it? Try again, or set WEIGHBRIDGE_CACHE to a folder of your own."
    )


def _bring(
    connection: Connection, version: VersionInfo, artifacts: Sequence[ArtifactInfo], wanted: Wanted
) -> list[Take]:
    """Return the artifacts, with everything that is wanted of them in the cache."""
    takes = [Take(connection, version, each, wanted.part, verify=wanted.verify) for each in artifacts]
    if not all(each.is_cached or each.is_small for each in takes):
        with uncollected():
            _choose(takes, wanted)
    if connection.settings.offline:
        refuse_offline(version, [each.artifact for each in takes if each.missing_bytes])
    total = sum(each.missing_bytes for each in takes)
    with progress_bar(f"pull {version.reference}", total, wanted=connection.progress) as bar:
        for each in takes:
            each.bring(bar)
    return takes


def _gather(takes: Sequence[Take]) -> list[WeightFile]:
    """Return the artifacts, or where their storages lie."""
    return [each.open() for each in takes]


def _choose(takes: Sequence[Take], wanted: Wanted) -> None:
    """Take only what is wanted, where that can be told before the files are there."""
    names: list[str] = []
    for each in takes:
        found = each.find_names()
        if found is None:
            return
        names += found
    chosen = wanted.names if wanted.names is not None else select_names(names, wanted.include, wanted.exclude)
    for each in takes:
        each.choose(chosen)


def _sizes(files: Sequence[WeightFile], artifacts: Sequence[ArtifactInfo]) -> dict[Path, int]:
    """Return what the weights lie in, with the sizes that belong to it."""
    sizes: dict[Path, int] = {}
    for file, artifact in zip(files, artifacts, strict=True):
        if isinstance(file, Path):
            sizes[file] = artifact.size_bytes
        else:
            sizes |= {place.file: place.file_bytes for place in file.places.values()}
    return sizes


def _are_there(sizes: dict[Path, int]) -> bool:
    try:
        return all(path.stat().st_size == size_bytes for path, size_bytes in sizes.items())
    except OSError:
        return False
