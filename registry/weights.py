"""Which artifacts of a version are its state_dict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from registry.errors import AmbiguousWeightsError, NoWeightsError

WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
"""Names that make an artifact weights whatever its first bytes: a text file called `model.pt` is malformed."""
INDEX_SUFFIXES = (".safetensors.index.json", ".bin.index.json")
INDEX_FORMAT = "sharded-index"


class WeightsCandidate(Protocol):
    """What the choice needs to know of an artifact."""

    @property
    def path(self) -> str:
        """Its path in the version."""
        ...

    @property
    def tensor_count(self) -> int:
        """How many tensors its manifest holds; 0 for opaque files."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """A sharded state_dict: the path of its index and those of its shards."""

    index: str
    shards: tuple[str, ...]


def has_weights_name(path: str) -> bool:
    """Return whether the name alone says that the file holds weights."""
    return path.lower().endswith(WEIGHT_SUFFIXES)


def is_index_name(path: str) -> bool:
    """Return whether the name says that the file is the index of a sharded state_dict."""
    return path.lower().endswith(INDEX_SUFFIXES)


def choose_weights(
    artifacts: Sequence[WeightsCandidate], groups: Sequence[Group] = (), primary: str | None = None
) -> list[str]:
    """Return the paths that make up the state_dict: the primary one's, the group's, or the only weights artifact's.

    A file without tensors, such as `training_args.bin`, is no candidate.

    Raises:
        NoWeightsError: no artifact holds weights, or `primary` is none.
        AmbiguousWeightsError: several could be meant; `extra["candidates"]` lists them.
    """
    by_index = {group.index: list(group.shards) for group in groups}
    sharded = {shard for group in groups for shard in group.shards}
    single = [each.path for each in artifacts if each.tensor_count and each.path not in sharded]
    candidates = [*by_index, *single]
    if primary is not None:
        if primary not in candidates:
            raise NoWeightsError(f"The primary artifact {primary!r} holds no weights. Weights here: {candidates}.")
        return by_index.get(primary, [primary])
    if len(by_index) == 1:
        return next(iter(by_index.values()))
    if not candidates:
        raise NoWeightsError("No artifact here holds weights that can be read as a state_dict.")
    if len(candidates) > 1:
        raise AmbiguousWeightsError(
            f"Several artifacts hold weights: {', '.join(candidates)}. Name one as `primary` when you push, "
            "or ask for one by its path.",
            candidates=candidates,
        )
    return by_index.get(candidates[0], candidates)
