"""Verifying what was received: read strictly, judged, digested in one pass, chosen as a state_dict.

Nothing here touches the catalog: verification takes as long as the bytes need, and no connection waits for it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from registry.digest import StreamDigests
from registry.errors import (
    AmbiguousWeightsError,
    BlobStoreUnavailableError,
    MalformedArtifactError,
    NoWeightsError,
    UnsafeArtifactError,
    WeighbridgeError,
)
from registry.formats.inspection import Inspection, Kind, TensorRecord, Trust
from registry.formats.limits import DEFAULT_LIMITS
from registry.formats.mentions import list_globals, list_reasons, name_some
from registry.formats.reader import looks_like_weights
from registry.formats.sharded import check_index, is_distributed_checkpoint, parse_index
from registry.manifest import build_manifest, encode_manifest, iter_digested_ranges
from registry.schema import ArtifactInfo
from registry.weights import Group, choose_weights, has_weights_name, is_index_name
from storage.architectures import find_uses
from storage.draft import Received
from storage.metadata.records import NewArchitectureUse, NewArtifact, NewStorage
from storage.sources import BlobSource
from storage.stores import Stores

MIN_REUSABLE_BYTES = 2048
"""Smaller storages are sent again rather than looked up (DESIGN section 4)."""
DISTRIBUTED_FORMAT = "dcp"
_DISTRIBUTED_REASON = "A distributed checkpoint is opened by unpickling; what is in it is not read yet."
_WORST_FIRST: tuple[Trust, ...] = ("unsafe", "code", "tensors")


@dataclass(frozen=True, slots=True)
class Verified:
    """What all artifacts of a version turned out to be together."""

    artifacts: tuple[NewArtifact, ...]
    kind: Kind
    trust: Trust
    weights: tuple[str, ...]
    weights_problem: str | None
    notices: tuple[str, ...]
    uses: tuple[NewArchitectureUse, ...]


def verify(
    stores: Stores, received: Sequence[Received], primary: str | None, beat: Callable[[], None], no_code: str | None
) -> Verified:
    """Return what was received as the artifacts of a version.

    Args:
        stores: where the bytes are, and who reads them.
        received: at least one.
        primary: the path of the artifact that is to be the state_dict.
        beat: called now and then, for whoever must say that this push is alive.
        no_code: why nothing is taken that runs code when it is loaded; None where it is.

    Raises:
        MalformedArtifactError: weights that cannot be read strictly.
        UnsafeArtifactError: loading one would do harm, or runs code and none is taken.
        NoWeightsError: `primary` holds no weights.
        BlobStoreUnavailableError: the store gives back other weights than it took.
    """
    distributed = _distributed_paths([each.path for each in received])
    inspections: dict[str, Inspection] = {}
    for each in received:
        beat()
        if each.path in distributed:
            _refuse_harm(stores, each, no_code)
        elif (inspection := _inspect(stores, each, no_code, is_only=len(received) == 1)) is not None:
            inspections[each.path] = inspection
    groups = _find_groups(stores, received, inspections)
    artifacts: list[NewArtifact] = []
    for each in received:
        beat()
        artifacts.append(_digest(stores, each, inspections.get(each.path), beat, is_dcp=each.path in distributed))
    infos = [artifact.info for artifact in artifacts]
    weights, problem = _choose(infos, groups, primary)
    return Verified(
        artifacts=tuple(artifacts),
        kind=_version_kind(infos, weights),
        trust=next(trust for trust in _WORST_FIRST if any(info.trust == trust for info in infos)),
        weights=weights,
        weights_problem=problem,
        notices=tuple(_notices(inspections)),
        uses=tuple(find_uses(inspections, weights)),
    )


def _inspect(stores: Stores, received: Received, no_code: str | None, *, is_only: bool) -> Inspection | None:
    """Return what a weight file holds, None for a file that is no weights."""
    says_weights = has_weights_name(received.path) or looks_like_weights(received.head)
    if not (is_only or says_weights):
        return None
    try:
        inspection = stores.scanner.scan(BlobSource(stores.blobs, received.location, received.size_bytes))
    except (MalformedArtifactError, UnsafeArtifactError) as error:
        if not says_weights:
            error.detail += " A file that is no weights is taken together with the weights that it belongs to."
        raise _named(error, received.path) from error
    if inspection.trust == "unsafe":
        raise UnsafeArtifactError(
            f"{received.path}: loading this file would do harm, so nothing was stored. It refers to "
            f"{name_some(inspection.foreign_globals) or 'what no weights need'}. Do not open it anywhere.",
            path=received.path,
            **_why(inspection.foreign_globals, inspection.reasons),
        )
    if inspection.trust == "code" and no_code is not None:
        raise _takes_no_code(received.path, no_code, inspection.foreign_globals, inspection.reasons)
    return inspection


def _refuse_harm(stores: Stores, received: Received, no_code: str | None) -> None:
    """Refuse what is unsafe in a file of a distributed checkpoint, which is no weight file that could be read."""
    with suppress(MalformedArtifactError):
        _inspect(stores, received, no_code, is_only=True)
    if no_code is not None:
        raise _takes_no_code(received.path, no_code, [], [_DISTRIBUTED_REASON])


def _takes_no_code(path: str, why: str, names: list[str], reasons: list[str]) -> UnsafeArtifactError:
    return UnsafeArtifactError(
        f"{path} runs code when it is loaded, and {why}. Push its state_dict instead, best as safetensors.",
        path=path,
        **_why(names, reasons),
    )


def _why(names: Sequence[str], reasons: Sequence[str]) -> dict[str, Any]:
    """Return what is told of a file: bounded, for a file may refer to as much as it likes."""
    return {"globals": list_globals(names), "global_count": len(names), "reasons": list_reasons(reasons)}


def _named(error: WeighbridgeError, path: str) -> WeighbridgeError:
    told = {"path": path, **error.extra}
    if "globals" in told:
        told |= _why(told["globals"], told.get("reasons", []))
    return type(error)(f"{path}: {error.detail} Nothing was stored.", **told)


def _digest(
    stores: Stores, received: Received, inspection: Inspection | None, beat: Callable[[], None], *, is_dcp: bool
) -> NewArtifact:
    """Return the artifact with all its digests; weights are read once more, for those of their storages."""
    common = {
        "path": received.path,
        "size_bytes": received.size_bytes,
        "sha256": received.sha256,
        "blake3": received.blake3,
    }
    if inspection is None:
        known = {"format": DISTRIBUTED_FORMAT, "trust": "code", "reasons": [_DISTRIBUTED_REASON]} if is_dcp else {}
        return NewArtifact(ArtifactInfo.model_validate({**common, **known}), received.location)
    digests = StreamDigests(list(iter_digested_ranges(inspection)), received.size_bytes, sha256=False)
    for piece in stores.blobs.stream(received.location):
        digests.update(piece)
        beat()
    if digests.blake3 != received.blake3:
        raise BlobStoreUnavailableError(
            f"The blob store gave back other bytes of {received.path} than it took. Nothing was published: look at its "
            "disks, then push again."
        )
    digest, manifest = encode_manifest(build_manifest(inspection, digests))
    info = ArtifactInfo.model_validate(
        {
            **common,
            "format": inspection.format,
            "kind": inspection.kind,
            "trust": inspection.trust,
            **_why(inspection.foreign_globals, inspection.reasons),
            "manifest": digest,
            "tensor_count": len(inspection.tensors),
            "parameter_count": count_parameters(inspection.tensors),
        }
    )
    return NewArtifact(info, received.location, tuple(_storages(inspection, digests)), manifest)


def count_parameters(tensors: Sequence[TensorRecord]) -> int:
    """Return the number of elements of distinct tensors that are no optimizer state."""
    distinct = {
        (each.storage_key or each.name, each.storage_offset, each.shape, each.stride): math.prod(each.shape)
        for each in tensors
        if each.role != "optimizer"
    }
    return sum(distinct.values())


def _storages(inspection: Inspection, digests: StreamDigests) -> Iterator[NewStorage]:
    for storage in inspection.storages:
        if storage.file_offset is None or storage.big_endian or storage.nbytes < MIN_REUSABLE_BYTES:
            continue
        digest = digests.find_range(storage.file_offset, storage.nbytes)
        if digest is not None:
            yield NewStorage(digest, storage.file_offset, storage.nbytes)


def _find_groups(stores: Stores, received: Sequence[Received], inspections: Mapping[str, Inspection]) -> list[Group]:
    """Return the sharded state_dicts, each index checked against its shards."""
    groups: list[Group] = []
    for each in received:
        if not is_index_name(each.path):
            continue
        folder = each.path[: each.path.rfind("/") + 1]
        beside = {
            path.removeprefix(folder): inspection for path, inspection in inspections.items() if path.startswith(folder)
        }
        try:
            index = parse_index(_read_index(stores, each))
            check_index(index, beside)
        except MalformedArtifactError as error:
            raise _named(error, each.path) from error
        groups.append(Group(each.path, tuple(folder + shard for shard in index.shards)))
    return groups


def _read_index(stores: Stores, received: Received) -> bytes:
    if received.size_bytes > DEFAULT_LIMITS.json_bytes:
        raise MalformedArtifactError(f"The index is larger than {DEFAULT_LIMITS.json_bytes} bytes.")
    (data,) = stores.blobs.read_many(received.location, [(0, received.size_bytes)])
    return data


def _distributed_paths(paths: Sequence[str]) -> set[str]:
    """Return the paths that belong to folders of `torch.distributed.checkpoint`."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.rpartition("/")[0], []).append(path)
    return {
        path
        for beside in by_folder.values()
        if is_distributed_checkpoint(beside)
        for path in beside
        if path.rpartition("/")[2] == ".metadata" or path.endswith(".distcp")
    }


def _choose(
    infos: Sequence[ArtifactInfo], groups: Sequence[Group], primary: str | None
) -> tuple[tuple[str, ...], str | None]:
    try:
        return tuple(choose_weights(infos, groups, primary)), None
    except (NoWeightsError, AmbiguousWeightsError) as error:
        if primary is not None:
            raise
        return (), error.code


def _version_kind(infos: Sequence[ArtifactInfo], weights: Sequence[str]) -> Kind:
    chosen = [info for info in infos if info.path in weights] or [info for info in infos if info.kind != "opaque"]
    return chosen[0].kind if chosen else "opaque"


def _notices(inspections: Mapping[str, Inspection]) -> Iterator[str]:
    for path, inspection in inspections.items():
        if inspection.unknown_records:
            shown = ", ".join(inspection.unknown_records[:5])
            yield f"{path} holds records that no reader knows ({shown}); they are kept as they are."
