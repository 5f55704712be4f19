"""Verifying what was received: read strictly, judged, digested in one pass, chosen as a state_dict.

Nothing here touches the catalog: verification takes as long as the bytes need, and no connection waits for it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.digest import StreamDigests
from registry.errors import (
    AmbiguousWeightsError,
    BlobStoreUnavailableError,
    MalformedArtifactError,
    NoWeightsError,
    UnsafeArtifactError,
)
from registry.formats.inspection import Inspection, Kind, TensorRecord, Trust
from registry.formats.limits import DEFAULT_LIMITS
from registry.formats.sharded import check_index, is_distributed_checkpoint, parse_index
from registry.manifest import build_manifest, encode_manifest, iter_digested_ranges
from registry.schema import ArtifactInfo
from registry.tiles import MIN_REUSABLE_BYTES, Tile, cut, iter_reusable
from registry.uploads import MAX_TILES
from registry.weights import Group, choose_weights, is_index_name
from storage.architectures import find_uses
from storage.digesting import Digested, digest_received
from storage.judge import DISTRIBUTED_REASON, Judged, PushRules, judge, name_file, tell_why
from storage.metadata.records import Assembly, NewArchitectureUse, NewArtifact, NewStorage, Pack
from storage.push import Received
from storage.stores import Stores

DISTRIBUTED_FORMAT = "dcp"
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
    stores: Stores, received: Sequence[Received], primary: str | None, beat: Callable[[], None], rules: PushRules
) -> Verified:
    """Return what was received as the artifacts of a version.

    Args:
        stores: where the bytes are, and who reads them.
        received: at least one.
        primary: the path of the artifact that is to be the state_dict.
        beat: called now and then, for whoever must say that this push is alive.
        rules: what is taken.

    Raises:
        MalformedArtifactError: weights that cannot be read strictly.
        UnsafeArtifactError: loading one would do harm, or runs code and none is taken.
        NoWeightsError: `primary` holds no weights.
        BlobStoreUnavailableError: the store gives back other weights than it took.
    """
    distributed = _distributed_paths([each.path for each in received])
    judged = judge(stores, received, distributed, rules, beat)
    groups = _find_groups(stores, received, judged.inspections)
    artifacts: list[NewArtifact] = []
    for each in received:
        beat()
        if each.path in judged.harmful:
            artifacts.append(_keep_harmful(stores, each, judged.harmful[each.path], beat))
        else:
            inspection = judged.inspections.get(each.path)
            artifacts.append(_digest(stores, each, inspection, beat, is_dcp=each.path in distributed))
    infos = [artifact.info for artifact in artifacts]
    weights, problem = _choose(infos, groups, primary)
    return Verified(
        artifacts=tuple(artifacts),
        kind=_version_kind(infos, weights),
        trust=next(trust for trust in _WORST_FIRST if any(info.trust == trust for info in infos)),
        weights=weights,
        weights_problem=problem,
        notices=tuple(_notices(judged)),
        uses=() if judged.harmful else tuple(find_uses(judged.inspections, weights)),
    )


def _digest(
    stores: Stores, received: Received, inspection: Inspection | None, beat: Callable[[], None], *, is_dcp: bool
) -> NewArtifact:
    """Return the artifact with all its digests; weights are read once more, for those of their storages."""
    if inspection is None:
        known = {"format": DISTRIBUTED_FORMAT, "trust": "code", "reasons": [DISTRIBUTED_REASON]} if is_dcp else {}
        common, assembly = _digests_of_all(stores, received, beat)
        whole = Tile(0, received.size_bytes, common["blake3"])
        storages = (NewStorage(whole.digest, 0, whole.length),) if whole.length >= MIN_REUSABLE_BYTES else ()
        info = ArtifactInfo.model_validate({**common, **known})
        return NewArtifact(info, received.location, storages, tiles=(whole,), assembly=assembly)
    places = cut(inspection, received.size_bytes, max_tiles=MAX_TILES)
    digested = digest_received(stores, received, [*iter_digested_ranges(inspection), *places], beat)
    digests = digested.stream
    digest, manifest = encode_manifest(build_manifest(inspection, digests))
    info = ArtifactInfo.model_validate(
        {
            **_common(received, digests),
            "format": inspection.format,
            "kind": inspection.kind,
            "trust": inspection.trust,
            **tell_why(inspection.foreign_globals, inspection.reasons),
            "manifest": digest,
            "tensor_count": len(inspection.tensors),
            "parameter_count": count_parameters(inspection.tensors),
        }
    )
    return NewArtifact(
        info,
        received.location,
        tuple(_storages(inspection, digests)),
        manifest,
        tuple(Tile(*place, found) for place in places if (found := digests.find_range(*place)) is not None),
        _assembly(received, digested),
    )


def _digests_of_all(
    stores: Stores, received: Received, beat: Callable[[], None]
) -> tuple[dict[str, Any], Assembly | None]:
    """Return what every artifact says of its bytes; they are read only where they were not digested as they came."""
    if received.sha256 is None or received.blake3 is None:
        digested = digest_received(stores, received, (), beat)
        return _common(received, digested.stream), _assembly(received, digested)
    sizes = {"path": received.path, "size_bytes": received.size_bytes}
    return {**sizes, "sha256": received.sha256, "blake3": received.blake3}, None


def _assembly(received: Received, digested: Digested) -> Assembly | None:
    """Return how an artifact lies of which some was stored before."""
    assembled = received.assembled
    if assembled is None:
        return None
    pack = None
    if assembled.location is not None and digested.pack_sha256 is not None:
        pack = Pack(assembled.location, digested.pack_sha256, assembled.pack_bytes)
    return Assembly(assembled.extents, assembled.sources, pack)


def _common(received: Received, digests: StreamDigests) -> dict[str, Any]:
    if digests.size_bytes != received.size_bytes or received.blake3 not in (None, digests.blake3):
        raise BlobStoreUnavailableError(
            f"The blob store gave back other bytes of {received.path} than it took. Nothing was published: look at its "
            "disks, then push again."
        )
    sizes = {"path": received.path, "size_bytes": received.size_bytes}
    return {**sizes, "sha256": received.sha256 or digests.sha256, "blake3": digests.blake3}


def _keep_harmful(
    stores: Stores, received: Received, error: UnsafeArtifactError, beat: Callable[[], None]
) -> NewArtifact:
    """Return an artifact that is kept as it is: nothing of it is ever reused."""
    common, assembly = _digests_of_all(stores, received, beat)
    info = ArtifactInfo(
        **common,
        trust="unsafe",
        reasons=error.extra.get("reasons") or ["It is broken, and would do harm before that is noticed."],
        globals=error.extra.get("globals", []),
        global_count=error.extra.get("global_count", 0),
    )
    return NewArtifact(info, received.location, assembly=assembly)


def count_parameters(tensors: Sequence[TensorRecord]) -> int:
    """Return the number of elements of distinct tensors that are no optimizer state."""
    distinct = {
        (each.storage_key or each.name, each.storage_offset, each.shape, each.stride): math.prod(each.shape)
        for each in tensors
        if each.role != "optimizer"
    }
    return sum(distinct.values())


def _storages(inspection: Inspection, digests: StreamDigests) -> Iterator[NewStorage]:
    for offset, length in iter_reusable(inspection):
        digest = digests.find_range(offset, length)
        if digest is not None:
            yield NewStorage(digest, offset, length)


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
            raise name_file(error, each.path) from error
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


def _notices(judged: Judged) -> Iterator[str]:
    for path in judged.harmful:
        yield f"{path} would do harm when it is loaded. The version is in quarantine: only admins of the team see it."
    for path, inspection in judged.inspections.items():
        if inspection.unknown_records:
            shown = ", ".join(inspection.unknown_records[:5])
            yield f"{path} holds records that no reader knows ({shown}); they are kept as they are."
