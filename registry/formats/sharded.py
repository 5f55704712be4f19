"""State_dicts in several files: an index names the shard of every tensor, and the shards must agree with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from registry.errors import InvalidPathError, MalformedArtifactError
from registry.formats.bounded_json import parse_json
from registry.formats.inspection import Inspection
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.names import check_path

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """An index as written by transformers: tensor name → path of its shard, relative to the index's folder."""

    weight_map: dict[str, str]

    @property
    def shards(self) -> list[str]:
        """The shards' paths, sorted."""
        return sorted(set(self.weight_map.values()))


def parse_index(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ShardIndex:
    """Return what an index file says.

    Raises:
        MalformedArtifactError: it is no index, or names a shard outside its own folder.
    """
    if len(data) > limits.json_bytes:
        raise MalformedArtifactError(f"The index is larger than {limits.json_bytes} bytes.")
    document = parse_json(data, limits, "the index")
    weight_map: Any = cast("dict[str, Any]", document).get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise MalformedArtifactError("The index has no `weight_map` from tensor names to shards.")
    found = cast("dict[str, Any]", weight_map)
    if not all(isinstance(shard, str) for shard in found.values()):
        raise MalformedArtifactError("The index has a `weight_map` whose shards are no names.")
    for shard in set(found.values()):
        _check_shard_path(shard)
    return ShardIndex(found)


def check_index(index: ShardIndex, shards: Mapping[str, Inspection]) -> None:
    """Return when every tensor of the index is in its shard, and no shard holds another.

    Args:
        index: what the index says.
        shards: inspections by path relative to the index's folder.

    Raises:
        MalformedArtifactError: they disagree; the detail names the first that do.
    """
    absent = [path for path in index.shards if path not in shards]
    if absent:
        raise MalformedArtifactError(f"The index names shards that were not sent: {_listed(absent)}.")
    held = {path: {tensor.name for tensor in shards[path].tensors} for path in index.shards}
    missing = [name for name, path in index.weight_map.items() if name not in held[path]]
    if missing:
        raise MalformedArtifactError(f"The index names tensors that their shards do not hold: {_listed(missing)}.")
    unlisted = [
        f"{name} in {path}" for path, names in held.items() for name in names if index.weight_map.get(name) != path
    ]
    if unlisted:
        raise MalformedArtifactError(f"Shards hold tensors that the index does not place there: {_listed(unlisted)}.")


def is_distributed_checkpoint(paths: Iterable[str]) -> bool:
    """Return whether the paths are those of a `torch.distributed.checkpoint` folder: `.metadata` beside `*.distcp`."""
    names = [path.rpartition("/")[2] for path in paths]
    return ".metadata" in names and any(name.endswith(".distcp") for name in names)


def _check_shard_path(shard: str) -> None:
    try:
        plain = check_path(shard) == shard and "/" not in shard
    except InvalidPathError:
        plain = False
    if not plain:
        raise MalformedArtifactError(f"The index names the shard {shard!r:.100}, which is no file beside it.")


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(repr(name)[:100] for name in found[:_SHOWN]) + more
