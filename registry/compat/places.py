"""The two sides of a search for places: targets with their submodules, and sources and what bounds their fit."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from registry.architecture import Architecture, Subtree, TensorSpec
from registry.compat.leftovers import COUNTER

MIN_TENSORS = 3
"""Submodules of fewer tensors, counters left out, are no place of their own: every network has such layers."""
MAX_PLACES = 200
"""Of more distinct submodules, those with most elements are places."""
MIN_SHARE = 0.1
MIN_USED = 0.5
"""A placement counts when it would initialise a tenth of the whole target, or uses half of the source's tensors."""
SMALL = 40
"""In networks of so few tensors a renaming may be one of single modules; then their own names tell nothing."""
DIGITS = 6
"""Scores are rounded to so many digits."""
_SAME_LEAF = {"weight_g": "original0", "weight_v": "original1"}
"""What torch's own load rules move to another name (see `registry.compat.rules`)."""
_COMMON_LEAVES = frozenset({"weight", "bias", "running_mean", "running_var"})
"""Names that nearly every module has: together with the module's own they tell something."""

Feature = tuple[str, tuple[int, ...]]
"""A tensor's last name, with its module's where it is a common one, and its shape: what two tensors have in common if
one can fill the other."""


@dataclass(frozen=True)
class Place:
    """A module of the target, as an architecture of its own.

    Attributes:
        into: its name; empty for the whole target.
        architecture: its tensors, by their names below it.
        elements: of each feature of it, how many tensors have it and how many elements one has that counts.
        leaves: the same by the tensors' last names alone.
        twins: the names of all modules that it stands for, its own too.
    """

    into: str
    architecture: Architecture
    elements: dict[Feature, tuple[int, int]]
    leaves: dict[Feature, tuple[int, int]]
    twins: tuple[str, ...] = ()

    @cached_property
    def parameter_count(self) -> int:
        """Elements of its distinct tensors that are not known to be buffers."""
        return self.architecture.parameter_count

    @property
    def size(self) -> int:
        """How many tensors it has."""
        return len(self.architecture.tensors)


class Target:
    """A target with its places: the whole, then its submodules of `MIN_TENSORS` tensors or more, parents first.

    Of submodules with equal names and shapes the first one stands for all.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.elements = architecture.parameter_count
        self.places = _find_places(architecture)


class Source:
    """A source, and what is counted of it once for all targets."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.features, self.leaves = count_features(architecture.tensors.values())
        self.weight_count = self.leaves.total()

    def bound(self, where: Place, total: int) -> float:
        """Return what the score of this source at a place is at most; 0 when it cannot count there.

        Args:
            where: the place.
            total: elements that count of the whole target.
        """
        small = min(where.size, self.weight_count) <= SMALL
        wanted, have = (where.leaves, self.leaves) if small else (where.elements, self.features)
        reached = sum(min(count, have[each]) * numel for each, (count, numel) in wanted.items() if each in have)
        return self.bound_of(reached / total, where.size, where.size)

    def bound_of(self, share: float, size: int, fit: int) -> float:
        """Return what the score is at most where a share of the target can be reached at most.

        Args:
            share: fraction of the target's elements.
            size: tensors of the place; each takes at most one of the source's, and the others are left over.
            fit: how many tensors can fit at most.
        """
        if share < MIN_SHARE and fit < MIN_USED * self.weight_count:
            return 0.0
        return share * (1 + size / max(size, self.weight_count)) / 2 + 10**-DIGITS


def count_features(tensors: Iterable[TensorSpec], *, prefix: str = "") -> tuple[Counter[Feature], Counter[Feature]]:
    """Return how many tensors have each feature, and each feature by the last name alone.

    Counters, which hold no weights, are left out.

    Args:
        tensors: of a source or a place.
        prefix: what the names had before they were cut.
    """
    features: Counter[Feature] = Counter()
    leaves: Counter[Feature] = Counter()
    for spec in tensors:
        parent, _, last = spec.name.rpartition(".")
        if last != COUNTER:
            # torch copies what 0.3 saved as [1] into a scalar.
            shape = () if spec.shape == (1,) else spec.shape
            last = _SAME_LEAF.get(last, last)
            leaves[last, shape] += 1
            if last in _COMMON_LEAVES:
                last = f"{(parent or prefix).rpartition('.')[2]}.{last}"
            features[last, shape] += 1
    return features, leaves


def _find_places(target: Architecture) -> list[Place]:
    nodes: dict[str, list[Subtree]] = {}
    for node in target.iter_subtrees():
        if node.prefix and node.tensor_count >= MIN_TENSORS:
            nodes.setdefault(node.digest, []).append(node)
    positions = {name: at for at, name in enumerate(target.tensors)}
    found = [_place("", target, ())]
    for first, *others in nodes.values():
        specs = sorted(_specs_below(first), key=lambda spec: positions[spec.name])
        if sum(not spec.name.endswith(COUNTER) for spec in specs) >= MIN_TENSORS:
            twins = tuple(node.prefix.removesuffix(".") for node in (first, *others))
            found.append(_place(twins[0], _cut(target, first.prefix, specs), twins))
    if len(found) > MAX_PLACES:
        largest = sorted(found, key=lambda each: -each.architecture.parameter_count)[:MAX_PLACES]
        names = {each.into for each in largest}
        found = [each for each in found if each.into in names]
    return found


def _place(module: str, architecture: Architecture, twins: tuple[str, ...]) -> Place:
    counting: list[TensorSpec] = []
    ties: set[str] = set()
    for spec in architecture.tensors.values():
        if spec.role != "buffer" and (spec.tie is None or spec.tie not in ties):
            counting.append(spec)
            ties.update([spec.tie] if spec.tie else [])
    features, leaves = count_features(counting, prefix=module)
    return Place(module, architecture, _with_numel(features), _with_numel(leaves), twins)


def _with_numel(features: Mapping[Feature, int]) -> dict[Feature, tuple[int, int]]:
    return {each: (count, prod(each[1])) for each, count in features.items()}


def _specs_below(node: Subtree) -> list[TensorSpec]:
    found: list[TensorSpec] = []
    waiting = [node]
    while waiting:
        each = waiting.pop()
        found.extend(each.leaves.values())
        waiting.extend(each.children.values())
    return found


def _cut(target: Architecture, prefix: str, specs: Iterable[TensorSpec]) -> Architecture:
    """Return a module of the target as an architecture of its own."""
    cut = len(prefix)
    owners = {spec.name.rpartition(".")[0] for spec in specs}
    metadata = target.metadata
    if metadata is not None:
        metadata = {name[cut:]: metadata[name] for name in owners if name in metadata}
    return Architecture(
        (
            TensorSpec(
                spec.name[cut:], spec.shape, spec.dtype, spec.role, spec.tie, spec.layout, spec.quantised, spec.digest
            )
            for spec in specs
        ),
        entries=(entry[cut:] for entry in target.entries if entry.startswith(prefix)),
        metadata=metadata,
    )
