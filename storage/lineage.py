"""Comparing versions by their manifests: with another that is named, or with that which a version comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from registry.architecture import Architecture
from registry.digest import is_digest
from registry.errors import AmbiguousWeightsError, NotFoundError, NoWeightsError, PermissionDeniedError
from registry.formats.wire import inspection_from_json
from registry.lineage.contents import TensorContent, join_contents, only_part, read_contents
from registry.lineage.differences import Differences, compare_contents
from registry.lineage.documents import Lineage, VersionDiff, describe_differences
from registry.lineage.story import find_heads, tell
from registry.names import Reference
from registry.schema import VersionInfo, VersionManifest
from storage.access import Caller
from storage.admission import sight_of
from storage.metadata.relatives import Relative
from storage.read import get_manifest, get_version
from storage.stores import Stores

MAX_COMPARED = 5
"""Versions that are compared to find out which shares most."""
STORAGES_ASKED = 256
"""The largest storages of a version, by which others that hold them are found."""
LEAST_SHARE = 0.05
"""Networks that have nothing to do with each other share zeros and ones."""


@dataclass(frozen=True, slots=True)
class _Side:
    """A state_dict of a version."""

    reference: str
    contents: Mapping[str, TensorContent]
    manifests: VersionManifest


def diff_versions(  # noqa: PLR0917 - a version is named by three words
    stores: Stores,
    caller: Caller,
    team: str,
    model: str,
    selector: str,
    other: str,
    *,
    path: str | None = None,
    part: str | None = None,
    other_part: str | None = None,
    limit: int,
) -> VersionDiff:
    """Return what became of the tensors on the way from a version to another one.

    Args:
        stores: of the installation.
        caller: who asks.
        team: of the first version.
        model: of the first version.
        selector: of the first version.
        other: a version of the same model (`3`, an alias), or a reference to one of any model.
        path: an artifact of the first version; a reference may name one of the other.
        part: the state_dict inside the first one, where that is a checkpoint.
        other_part: the same of the other.
        limit: tensors listed of each group.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: one is not there.
        InvalidReferenceError: `other` is none.
        NoWeightsError, AmbiguousWeightsError: one has no state_dict, or several.
    """
    old = _read(stores, caller, Reference(team, model), selector, path, part)
    named, chosen = _parse(other, team, model)
    new = _read(stores, caller, named, chosen, named.path, other_part)
    return describe_differences(old.reference, new.reference, compare_contents(old.contents, new.contents), limit)


def get_lineage(stores: Stores, caller: Caller, team: str, model: str, selector: str) -> Lineage:
    """Return where a version's tensors come from: compared with its base, else with what it shares most bytes with.

    Only what the caller may read is looked at. Costs the manifests of the version and of one other where it has a base
    that can be read, else of at most `MAX_COMPARED`, found by a few look-ups.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: it is not there.
    """
    version = get_version(stores, caller, team, model, selector)
    try:
        new = _read(stores, caller, Reference(team, model), str(version.number), None, None)
    except (NoWeightsError, AmbiguousWeightsError, NotFoundError):
        return Lineage(version=version.reference)
    base = stores.catalog.find_base(team, model, version.number)
    if base is not None:
        side = _read_if_possible(stores, caller, base)
        if side is not None:
            return _tell(stores, caller, version, new, side, compare_contents(side.contents, new.contents), "base")
    found = [
        (differences.shared_bytes, -at, side, differences)
        for at, relative in enumerate(_find_relatives(stores, caller, version, new))
        if (side := _read_if_possible(stores, caller, relative)) is not None
        for differences in [compare_contents(side.contents, new.contents)]
        if differences.share >= LEAST_SHARE
    ]
    if not found:
        return Lineage(version=version.reference, total_bytes=compare_contents({}, new.contents).new_bytes)
    *_, side, differences = max(found, key=lambda each: each[:2])
    return _tell(stores, caller, version, new, side, differences, "closest")


def _parse(other: str, team: str, model: str) -> tuple[Reference, str]:
    """Return the model, and which version of it, that a selector or a reference means."""
    if is_digest(other) or not ("/" in other or ":" in other or "@" in other):
        return Reference(team, model), other
    reference = Reference.parse(other, team)
    return reference, reference.selector


def _read(  # noqa: PLR0917 - what names a state_dict
    stores: Stores, caller: Caller, reference: Reference, selector: str, path: str | None, part: str | None
) -> _Side:
    manifests = get_manifest(stores, caller, reference.team or "", reference.model, selector, path)
    contents = join_contents([read_contents(each.manifest, part) for each in manifests.artifacts])
    name = f"{manifests.team}/{manifests.model}:{manifests.number}"
    return _Side(name if path is None else f"{name}/{path}", contents, manifests)


def _read_if_possible(stores: Stores, caller: Caller, relative: Relative) -> _Side | None:
    """Return the state_dict of a version, None where the caller may not read it or there is no obvious one."""
    try:
        return _read(stores, caller, Reference(relative.team, relative.model), str(relative.number), None, None)
    except (NotFoundError, PermissionDeniedError, NoWeightsError, AmbiguousWeightsError):
        return None


def _find_relatives(stores: Stores, caller: Caller, version: VersionInfo, new: _Side) -> list[Relative]:
    storages: dict[str, int] = {}
    for each in new.manifests.artifacts:
        described: list[dict[str, Any]] = each.manifest["storages"]
        storages |= {one["digest"]: one["nbytes"] for one in described if one.get("digest") is not None}
    largest = sorted(storages, key=lambda digest: (-storages[digest], digest))[:STORAGES_ASKED]
    own = Relative(version.team, version.model, version.number)
    return stores.catalog.find_relatives(own, largest, sight_of(caller), MAX_COMPARED)


def _tell(  # noqa: PLR0917 - two sides and what is between them
    stores: Stores,
    caller: Caller,
    version: VersionInfo,
    new: _Side,
    old: _Side,
    found: Differences,
    relation: Literal["base", "closest"],
) -> Lineage:
    manifests = old.manifests
    known = get_version(stores, caller, manifests.team, manifests.model, str(manifests.number))
    recorded = next((config.classifier for config in (version.pretrained_cfg, known.pretrained_cfg) if config), None)
    heads = find_heads(_architecture(manifests), _architecture(new.manifests), found, recorded or ())
    return tell(version.reference, old.reference, relation, found, heads)


def _architecture(manifests: VersionManifest) -> Architecture:
    return Architecture.join(
        [
            Architecture.from_manifest(each.manifest, only_part(inspection_from_json(each.manifest)))
            for each in manifests.artifacts
        ]
    )
