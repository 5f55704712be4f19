"""A version's state_dict as one safetensors stream: its dense tensors, whatever files they were pushed in.

Nothing is unpickled and nothing is copied beforehand: the manifests say where each tensor lies in its artifact, and the
stream is a header and those ranges.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from registry.errors import InvalidRequestError, NotProjectableError, TooLargeError
from registry.formats.inspection import Inspection, TensorRecord
from registry.formats.safetensors import can_hold, plan
from registry.formats.wire import inspection_from_json
from registry.manifest import is_contiguous
from registry.schema import VersionManifest
from registry.state_dict import (
    METADATA_KEY,
    choose_part,
    is_of_part,
    metadata_of,
    name_in_part,
    refuse_unsafe,
    select_names,
)
from storage.access import Caller
from storage.metadata.records import StoredArtifact
from storage.projected import Projection, Span
from storage.read import get_artifact, get_manifest, require_open
from storage.stores import Stores

MAX_EXPANSION = 4
"""How many times the stored bytes a stream may have: a forged file can hold a million names for one storage."""
NAMES_TOLD = 100
"""Tensors that an error names at most."""


@dataclass(frozen=True, slots=True)
class ProjectionQuery:
    """Which tensors are wanted: all, or those with names like a pattern of `include` and like none of `exclude`.

    Attributes:
        path: the artifact, where the version has several with weights.
        part: the state_dict inside a checkpoint.
        include, exclude: patterns as of `fnmatch`.
    """

    path: str | None = None
    part: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


class _Item(NamedTuple):
    """A tensor under its name in the state_dict, and the artifact that holds it."""

    name: str
    path: str
    tensor: TensorRecord
    is_plain: bool


def open_projection(  # noqa: PLR0917 - a version is named by three words
    stores: Stores, caller: Caller, team: str, model: str, selector: str, query: ProjectionQuery
) -> Projection:
    """Return the stream of a version's state_dict for somebody who takes its bytes.

    Whoever may not download an artifact that runs code gets no tensors out of it either: the team's rule is about the
    file. It is no `code.open` in the audit, since none of the code leaves.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: it is not there.
        PermissionDeniedError: an artifact runs code, and the team lets others open that.
        NoWeightsError, AmbiguousWeightsError: none, or several, could be meant.
        InvalidRequestError: a pattern matches no name, or nothing is left.
        NotProjectableError: some of the tensors do not lie in their file as plain bytes.
        TooLargeError: the names of shared storages would make the stream many times as large as what is stored.
    """
    manifests = get_manifest(stores, caller, team, model, selector, query.path)
    artifacts = tuple(_get_artifacts(stores, caller, manifests))
    files = {each.path: inspection_from_json(each.manifest) for each in manifests.artifacts}
    parts = {path: _choose_part(path, inspection, query.part) for path, inspection in files.items()}
    items = [item for path, inspection in files.items() for item in _items(path, inspection, parts[path])]
    chosen = _choose(items, query)
    _refuse_expansion(chosen, sum(each.info.size_bytes for each in artifacts))
    described = [(each.name, each.tensor.dtype, each.tensor.shape, each.tensor.nbytes) for each in chosen]
    planned = plan(described, _describe(manifests, files, parts), sorts_names=True)
    by_name = {each.name: each for each in chosen}
    spans = tuple(_span(by_name[name]) for name in planned.offsets)
    etag = _etag(planned.header, spans, artifacts)
    return Projection(manifests.number, etag, planned.header, spans, planned.size, artifacts)


def _get_artifacts(stores: Stores, caller: Caller, manifests: VersionManifest) -> Iterator[StoredArtifact]:
    number = str(manifests.number)  # an alias may move between two questions
    for each in manifests.artifacts:
        artifact = get_artifact(stores, caller, manifests.team, manifests.model, number, each.path)
        if artifact.info.trust != "tensors":
            require_open(stores, caller, manifests.team, artifact)
        yield artifact


def _choose_part(path: str, inspection: Inspection, part: str | None) -> str | None:
    refuse_unsafe(path, inspection)
    # The only part is told in the stream's metadata; asked for without, a moving average warns its user.
    is_only = part is None and inspection.kind == "checkpoint" and len(inspection.parts) == 1
    return inspection.parts[0] if is_only else choose_part(inspection, part)


def _items(path: str, inspection: Inspection, part: str | None) -> Iterator[_Item]:
    swapped = {each.key for each in inspection.storages if each.big_endian}
    for each in inspection.tensors:
        if is_of_part(each, part):
            name = name_in_part(each.name, part)
            yield _Item(name, path, each, can_hold(name, each.dtype, each.shape) and _is_plain(each, swapped))


def _is_plain(tensor: TensorRecord, swapped: set[str]) -> bool:
    """Return whether the values lie in the file as safetensors wants them: dense, row-major, little-endian."""
    if tensor.layout != "strided" or tensor.quantisation or tensor.components or tensor.conj or tensor.neg:
        return False
    if not tensor.nbytes:
        return True
    return tensor.file_offset is not None and tensor.storage_key not in swapped and is_contiguous(tensor)


def _choose(items: Sequence[_Item], query: ProjectionQuery) -> list[_Item]:
    """Return the wanted tensors in the order in which they lie in their artifacts."""
    wanted = select_names([each.name for each in items], query.include, query.exclude)
    chosen = [each for each in items if each.name in wanted]
    if not chosen:
        raise InvalidRequestError(
            "`include` and `exclude` leave no tensor. The manifest lists the names that there are."
        )
    others = sorted(each.name for each in chosen if not each.is_plain)
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""  # noqa: PLR2004 - enough to know them by
        raise NotProjectableError(
            f"These tensors do not lie in their file as plain bytes that safetensors has a name for (views, sparse, "
            f"quantised, compressed, big-endian, other dtypes): {', '.join(others[:5])}{more}. Leave them out with "
            "`exclude`, or download the file as it is.",
            names=others[:NAMES_TOLD],
            count=len(others),
        )
    order = {path: at for at, path in enumerate(dict.fromkeys(each.path for each in items))}
    return sorted(chosen, key=lambda each: (order[each.path], each.tensor.file_offset or 0, each.name))


def _refuse_expansion(chosen: Sequence[_Item], stored_bytes: int) -> None:
    total = sum(each.tensor.nbytes for each in chosen)
    if total > MAX_EXPANSION * stored_bytes:
        raise TooLargeError(
            f"Names that share storages would make {total:,} bytes of {stored_bytes:,} that are stored. Name fewer by "
            "`include`, or download the file as it is."
        )


def _describe(
    manifests: VersionManifest, files: Mapping[str, Inspection], parts: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the `__metadata__` of the stream: where it comes from, and torch's `_metadata`."""
    kept: dict[str, Any] = {}
    for path, inspection in files.items():
        kept |= metadata_of(inspection, parts[path]) or {}
    described = {"format": "pt", "weighbridge.version": f"{manifests.team}/{manifests.model}:{manifests.number}"}
    part = next((each for each in parts.values() if each is not None), None)
    return (
        described
        | ({} if part is None else {"weighbridge.part": part})
        | ({METADATA_KEY: json.dumps(kept)} if kept else {})
    )


def _span(item: _Item) -> Span:
    return Span(item.path, item.tensor.file_offset or 0, item.tensor.nbytes)


def _etag(header: bytes, spans: Sequence[Span], artifacts: Sequence[StoredArtifact]) -> str:
    """Return a digest of the header, of the artifacts' content, and of what of it is taken."""
    digest = hashlib.sha256(header)
    digest.update(json.dumps([(each.info.path, each.info.sha256) for each in artifacts]).encode())
    digest.update(json.dumps(spans).encode())
    return digest.hexdigest()
