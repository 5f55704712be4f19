"""Download: the very files of a version below a folder, with or without leaving them in the cache."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from registry.client.cache import blake3_file
from registry.client.connection import Connection
from registry.client.fetching import download_apart
from registry.client.local import find_local
from registry.client.placing import growing_copies, place, require_place, target_in
from registry.client.progress import progress_bar
from registry.client.pull import check_pin, complete, fetch, find_artifact, refuse_offline, resolve
from registry.names import Reference, check_path, check_paths
from registry.paths import expand_home
from registry.schema import ArtifactInfo, VersionInfo


def download(
    connection: Connection,
    ref: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    verify: bool = True,
    cache: bool = True,
) -> list[Path]:
    """Write the files of a version, or the one artifact that the reference names, below a folder.

    Raises:
        WeighbridgeError: see `Client.download`.
    """
    folder = expand_home(to)
    local = find_local(ref)
    if local is not None:
        names = [each for each in sorted(local.rglob("*")) if each.is_file()] if local.is_dir() else [local]
        root = local if local.is_dir() else local.parent
        return [place(each, folder, each.relative_to(root).as_posix()) for each in names]
    reference = complete(connection, str(ref), None)
    version = resolve(connection, reference)
    artifacts = [find_artifact(version, reference.path)] if reference.path else version.artifacts
    check_paths([each.path for each in artifacts])
    bring = _bring_and_keep if cache else _bring_only
    return bring(connection, folder, reference, version, artifacts, verify=verify)


def _bring_and_keep(
    connection: Connection,
    folder: Path,
    reference: Reference,
    version: VersionInfo,
    artifacts: Sequence[ArtifactInfo],
    *,
    verify: bool,
) -> list[Path]:
    with growing_copies(folder, artifacts) as copies:
        files = fetch(connection, version, artifacts, verify=verify, copies=copies)
        check_pin(reference, version, dict(zip((each.sha256 for each in artifacts), files, strict=True)))
        return [
            place(file, folder, check_path(each.path), copies.get(each.path))
            for each, file in zip(artifacts, files, strict=True)
        ]


def _bring_only(
    connection: Connection,
    folder: Path,
    reference: Reference,
    version: VersionInfo,
    artifacts: Sequence[ArtifactInfo],
    *,
    verify: bool,
) -> list[Path]:
    """Take what the folder or the cache holds from there, and fetch the rest file by file."""
    targets = {each.path: target_in(folder, check_path(each.path)) for each in artifacts}
    there = {each.path for each in artifacts if _is_at(targets[each.path], each)}
    sources = {each.blake3: targets[each.path] for each in artifacts if each.path in there}
    missing = {each.blake3: each for each in artifacts if each.blake3 not in sources}
    for each in list(missing.values()):
        found = connection.cache.find(each.blake3, each.size_bytes, verify=verify)
        if found is not None:
            sources[each.blake3] = found
            del missing[each.blake3]
    if connection.settings.offline:
        refuse_offline(version, list(missing.values()))
    for each in artifacts:
        if each.path not in there:
            require_place(targets[each.path])
    total = sum(each.size_bytes for each in missing.values())
    with progress_bar(f"pull {version.reference}", total, wanted=connection.progress if missing else False) as bar:
        for each in sorted(artifacts, key=lambda each: each.sha256 != reference.selector):  # what is pinned goes first
            source = sources.get(each.blake3) or download_apart(connection, version, each, bar)
            try:
                check_pin(reference, version, {each.sha256: source})
                if each.path not in there:
                    place(source, folder, check_path(each.path), moves=each.blake3 not in sources)
            finally:
                if each.blake3 not in sources:
                    source.unlink(missing_ok=True)
            sources.setdefault(each.blake3, targets[each.path])
    return list(targets.values())


def _is_at(target: Path, artifact: ArtifactInfo) -> bool:
    """Return whether a file, and not a link to one, holds these very bytes."""
    try:
        status = target.lstat()
        is_alike = stat.S_ISREG(status.st_mode) and status.st_size == artifact.size_bytes
        return is_alike and blake3_file(target) == artifact.blake3
    except OSError:
        return False
