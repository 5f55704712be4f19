"""Pull: what a reference means, and its files in the cache."""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from registry.client.cache import hash_file
from registry.client.connection import Connection
from registry.client.fetching import download_artifact
from registry.client.growing_copy import GrowingCopy
from registry.client.local import find_local, find_weights
from registry.client.progress import progress_bar
from registry.client.results import Version
from registry.errors import (
    AmbiguousWeightsError,
    ArtifactNotFoundError,
    DigestMismatchError,
    InvalidReferenceError,
    NoWeightsError,
    OfflineError,
    TrustCodeRequiredError,
)
from registry.formats.mentions import name_some
from registry.names import Reference
from registry.schema import ArtifactInfo, VersionInfo
from registry.weights import is_index_name

_NUMBER = re.compile(r"v?[0-9]+")


class DeprecatedVersionWarning(UserWarning):
    """The version that is used was deprecated; the message is the reason given."""


def complete(connection: Connection, ref: str, version: int | str | None) -> Reference:
    """Parse a reference; `version` says which when the reference does not.

    Raises:
        InvalidReferenceError: it is none, or both say which version.
    """
    reference = connection.resolver.reference(ref)
    if version is None:
        return reference
    if reference.selector != "latest" or reference.path is not None:
        raise InvalidReferenceError(f"{ref!r} says which version, and `version={version!r}` does too. Give one.")
    sign = ":" if isinstance(version, int) or _NUMBER.fullmatch(version) else "@"
    return connection.resolver.reference(f"{reference}{sign}{version}")


def resolve(connection: Connection, reference: Reference) -> Version:
    """Return the version to use, and warn when it is deprecated."""
    version = connection.resolver.version(reference)
    warn_deprecated(version, stacklevel=5)
    return version


def warn_deprecated(version: VersionInfo, *, stacklevel: int) -> None:
    """Warn when a version is deprecated; `stacklevel` as of `warnings.warn`, counted from here."""
    if version.annotations.deprecated is not None:
        text = f"{version.reference} is deprecated: {version.annotations.deprecated}"
        warnings.warn(text, DeprecatedVersionWarning, stacklevel=stacklevel)


def fetch(
    connection: Connection,
    version: VersionInfo,
    artifacts: Sequence[ArtifactInfo],
    *,
    verify: bool = False,
    copies: Mapping[str, GrowingCopy] = {},
) -> list[Path]:
    """Return the artifacts' files in the cache, downloading what is not there.

    Args:
        connection: the way to the service.
        version: whose artifacts they are.
        artifacts: in the order of the answer.
        verify: read cached files again and compare their digests, not only their sizes.
        copies: by path, copies that grow while their files come.

    Raises:
        OfflineError: offline, and one is not in the cache.
        WeighbridgeError: as `download_artifact`.
    """
    cache = connection.cache
    files = {each.path: cache.find(each.blake3, each.size_bytes, verify=verify) for each in artifacts}
    missing = [each for each in artifacts if files[each.path] is None]
    if missing:
        if connection.settings.offline:
            refuse_offline(version, missing)
        total = sum(each.size_bytes for each in missing)
        with progress_bar(f"pull {version.reference}", total, wanted=connection.progress) as bar:
            for each in missing:
                files[each.path] = download_artifact(connection, version, each, bar, copy=copies.get(each.path))
    return [file for each in artifacts if (file := files[each.path]) is not None]


def refuse_offline(version: VersionInfo, missing: Sequence[ArtifactInfo]) -> None:
    """Return when nothing is missing.

    Raises:
        OfflineError: something is, which only the service has.
    """
    if missing:
        names = ", ".join(each.path for each in missing)
        raise OfflineError(
            f"Offline, and the cache does not hold {names} of {version.reference}. Unset WEIGHBRIDGE_OFFLINE and "
            "pull it once."
        )


def fetch_weights(
    connection: Connection, ref: str | os.PathLike[str], version: int | str | None = None, *, verify: bool = False
) -> list[Path]:
    """Return the files of a state_dict: local ones, or those of a version in the cache.

    Raises:
        NoWeightsError, AmbiguousWeightsError: the version or folder holds none, or several to choose from.
        WeighbridgeError: as `fetch`.
    """
    local = find_unversioned(ref, version)
    if local is not None:
        return find_weights(local)
    reference = complete(connection, str(ref), version)
    found = resolve(connection, reference)
    chosen = choose_weights(found, reference.path)
    files = fetch(connection, found, chosen, verify=verify)
    check_pin(reference, found, dict(zip((each.sha256 for each in chosen), files, strict=True)))
    return files


def check_pin(reference: Reference, version: VersionInfo, files: Mapping[str, Path]) -> None:
    """Return when a version and its files are those that a reference pins by SHA-256, if it pins any.

    Raises:
        DigestMismatchError: they are others, whatever the service said.
    """
    pin = reference.selector
    if not pin.startswith("sha256:"):
        return
    is_there = any(each.sha256 == pin for each in version.artifacts)
    if not is_there or (pin in files and hash_file(files[pin]) != pin):
        raise DigestMismatchError(
            f"What the service has for {reference} holds other bytes than those. Ask its operator."
        )


def only_file(ref: str | os.PathLike[str], files: Sequence[Path]) -> Path:
    """Return the file where one is needed.

    Raises:
        AmbiguousWeightsError: there are several.
    """
    if len(files) > 1:
        raise AmbiguousWeightsError(
            f"{str(ref)!r} is made of {len(files)} files, and this reads one. Name one by its path in the reference.",
            candidates=[each.name for each in files],
        )
    return files[0]


def find_unversioned(ref: str | os.PathLike[str], version: int | str | None) -> Path | None:
    """Return the local path that a reference means, None when it names something in the registry.

    Raises:
        InvalidReferenceError: a version of it is asked for.
    """
    local = find_local(ref)
    if local is not None and version is not None:
        raise InvalidReferenceError(f"{str(ref)!r} is a local file; it has no versions to choose {version!r} from.")
    return local


def choose_weights(version: VersionInfo, path: str | None) -> list[ArtifactInfo]:
    """Return the artifacts of a version's state_dict, or the one at `path`.

    Raises:
        ArtifactNotFoundError: nothing is at `path`.
        NoWeightsError, AmbiguousWeightsError: as the service found when it was published.
    """
    if path is not None and not (is_index_name(path) and version.weights):
        return [find_artifact(version, path)]
    if version.weights:
        return [find_artifact(version, each) for each in version.weights]
    if version.weights_problem == "ambiguous_weights":
        candidates = [each.path for each in version.artifacts if each.tensor_count]
        raise AmbiguousWeightsError(
            f"{version.reference} holds several weight files: {', '.join(candidates)}. Name one, as in "
            f"`{version.reference}/{candidates[0] if candidates else 'FILE'}`.",
            candidates=candidates,
        )
    raise NoWeightsError(f"{version.reference} holds no weights, only files. `download` gets them.")


def find_artifact(version: VersionInfo, path: str) -> ArtifactInfo:
    """Return the artifact at `path`.

    Raises:
        ArtifactNotFoundError: nothing is there; the detail lists what is.
    """
    for each in version.artifacts:
        if each.path == path:
            return each
    names = ", ".join(each.path for each in version.artifacts)
    raise ArtifactNotFoundError(f"{version.reference} has no artifact {path!r}. It has: {names}.")


def fetch_code(connection: Connection, ref: str | os.PathLike[str], *, trust_code: bool) -> tuple[Path, str | None]:
    """Return a file to be unpickled and its format (None for a local file: to be found out).

    Raises:
        TrustCodeRequiredError: opening it runs code and the caller did not say so; nothing was fetched.
        AmbiguousWeightsError: several files could be meant.
    """
    local = find_local(ref)
    if local is not None:
        return only_file(ref, find_weights(local)), None
    reference = complete(connection, str(ref), None)
    version = resolve(connection, reference)
    code = [each for each in version.artifacts if each.trust == "code" and each.tensor_count]
    chosen = code if reference.path is None and len(code) == 1 else choose_weights(version, reference.path)
    if len(chosen) != 1:
        raise AmbiguousWeightsError(
            f"{version.reference} holds several weight files. Name one, as in `{version.reference}/{chosen[0].path}`.",
            candidates=[each.path for each in chosen],
        )
    artifact = chosen[0]
    if artifact.trust != "tensors" and not trust_code:
        raise TrustCodeRequiredError(
            f"Opening {artifact.path} of {version.reference} runs code from the file; it refers to: "
            f"{name_some(artifact.globals)}. If you trust who pushed it, say `trust_code=True`. The weights alone "
            f'need no trust: `pull("{version.reference}")`.',
            globals=artifact.globals,
        )
    return fetch(connection, version, [artifact])[0], artifact.format
