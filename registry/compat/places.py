"""The two sides of a search for places: targets with their submodules, and sources and what bounds their fit."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from math import prod
from operator import ne

from registry.architecture import Architecture, Subtree
from registry.compat.leftovers import COUNTER
from registry.tensor_spec import TensorSpec, count_parameters

MIN_TENSORS = 3
"""Submodules of fewer tensors, counters left out, are no place of their own: every network has such layers."""
MAX_PLACES = 200
"""Of more distinct submodules, those with most elements are places."""
MIN_SHARE = 0.1
MIN_USED = 0.5
"""A placement counts when it would initialise a tenth of the whole target, or uses half of the source's tensors."""
SMALL = 40
"""In networks of so few tensors a renaming may be one of single modules; then their own names tell nothing."""
OTHER_HEAD = 0.05
"""Up to this share of other shapes under equal names, two networks are one with two heads."""
_AFTER_DOT = "/"
"""The next character: it ends the range of a module's names among sorted ones."""
DIGITS = 6
"""Scores are rounded to so many digits."""
_SAME_LEAF = {"weight_g": "original0", "weight_v": "original1"}
"""What torch's own load rules move to another name (see `registry.compat.rules`)."""
_COMMON_LEAVES = frozenset({"weight", "bias", "running_mean", "running_var"})
"""Names that nearly every module has: together with the module's own they tell something."""

Feature = tuple[str, tuple[int, ...]]
"""A tensor's last name, with its module's where it is a common one, and its shape: what two tensors have in common if
one can fill the other."""
Names = tuple[str, ...]
Shapes = tuple[tuple[int, ...], ...]


class Place:
    """A module of the target, which becomes an architecture of its own when it is asked for.

    Attributes:
        into: its name; empty for the whole target.
        size: how many tensors it has.
        twins: the names of all modules that it stands for, its own too.
    """

    def __init__(
        self,
        target: Architecture,
        into: str,
        specs: Collection[TensorSpec],
        twins: tuple[str, ...] = (),
    ) -> None:
        self.into = into
        self.size = len(specs)
        self.twins = twins
        self._target = target
        self._specs = specs

    @cached_property
    def architecture(self) -> Architecture:
        """Its tensors, in order, by their names below it."""
        return _cut(self._target, f"{self.into}.", self._specs) if self.into else self._target

    @cached_property
    def parameter_count(self) -> int:
        """Elements of its distinct tensors that are not known to be buffers."""
        return count_parameters(self._specs)

    @property
    def elements(self) -> dict[Feature, tuple[int, int]]:
        """Of each feature, how many tensors have it and how many elements one has that counts."""
        return self._features[0]

    @property
    def leaves(self) -> dict[Feature, tuple[int, int]]:
        """The same by the tensors' last names alone."""
        return self._features[1]

    @cached_property
    def _features(self) -> tuple[dict[Feature, tuple[int, int]], dict[Feature, tuple[int, int]]]:
        counting: list[TensorSpec] = []
        ties: set[str] = set()
        for spec in self.architecture.tensors.values():
            if spec.role != "buffer" and (spec.tie is None or spec.tie not in ties):
                counting.append(spec)
                ties.update([spec.tie] if spec.tie else [])
        features, leaves = count_features(counting, prefix=self.into)
        return _with_numel(features), _with_numel(leaves)


class Target:
    """A target with its places: the whole, then its submodules of `MIN_TENSORS` tensors or more, parents first.

    Of submodules with equal names and shapes the first one stands for all.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.elements = architecture.parameter_count
        self.places = _find_places(architecture)

    @cached_property
    def sorted_names(self) -> Sequence[str]:
        """Of its tensors: those of a module are a range of them."""
        return sorted(self.architecture.tensors)

    @cached_property
    def numel(self) -> Mapping[str, int]:
        """The number of elements of each tensor, by its name, sorted."""
        return {name: prod(self.architecture.tensors[name].shape) for name in self.sorted_names}

    @cached_property
    def ranges(self) -> Mapping[str, Sequence[tuple[int, int]]]:
        """Where in `sorted_names` the tensors of the modules are that each place stands for, by its name."""
        return {each.into: [self._range(module) for module in each.twins] for each in self.places}

    def _range(self, module: str) -> tuple[int, int]:
        names = self.sorted_names
        return bisect_left(names, f"{module}."), bisect_left(names, f"{module}{_AFTER_DOT}")


class Source:
    """A source, and what is counted of it once for all targets.

    Attributes:
        architecture: its own.
        weight_count: how many tensors it has, counters left out.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.weight_count = len(architecture.tensors) - sum(map(str.endswith, architecture.tensors, repeat(COUNTER)))

    @cached_property
    def _counted(self) -> tuple[Counter[Feature], Counter[Feature]]:
        return count_features(self.architecture.tensors.values())

    @cached_property
    def _lines(self) -> str:
        """The names, each with a dot before it and a line of its own: what ends alike is found without a loop."""
        return "\n.".join(["", *self.architecture.tensors]) + "\n"

    @cached_property
    def _sorted_names(self) -> list[str]:
        return sorted(self.architecture.tensors)

    @cached_property
    def names(self) -> Names:
        """Of its tensors."""
        return tuple(self.architecture.tensors)

    @cached_property
    def shapes(self) -> Shapes:
        """Of its tensors, in elements."""
        return tuple(spec.shape for spec in self.architecture.tensors.values())

    def resembles(self, names: Names, shapes: Shapes) -> bool:
        """Return whether one of such tensors has the same names, and nearly all shapes: it differs in its head."""
        return self.names == names and sum(map(ne, self.shapes, shapes)) <= OTHER_HEAD * len(names)

    def has_equal(self, where: Place) -> bool:
        """Return whether a module of it has the names and shapes of a place, and no more."""
        wanted = where.architecture.tensors
        first = f".{next(iter(wanted))}\n"
        start = self._lines.find(first)
        while start >= 0:
            if self._is_equal(self._lines[self._lines.rfind("\n", 0, start + 1) + 2 : start + 1], wanted):
                return True
            start = self._lines.find(first, start + 1)
        return False

    def _is_equal(self, module: str, wanted: Mapping[str, TensorSpec]) -> bool:
        """Return whether a module, named with its dot, has the names and shapes of some tensors, and no more."""
        names = self._sorted_names
        end = bisect_left(names, f"{module[:-1]}{_AFTER_DOT}") if module else len(names)
        if end - bisect_left(names, module) != len(wanted):
            return False
        tensors = self.architecture.tensors
        known = ((tensors.get(f"{module}{name}"), spec.shape) for name, spec in wanted.items())
        return all(have is not None and have.shape == shape for have, shape in known)

    def bound(self, where: Place, total: int) -> float:
        """Return what the score of this source at a place is at most; 0 when it cannot count there.

        Args:
            where: the place.
            total: elements that count of the whole target.
        """
        small = min(where.size, self.weight_count) <= SMALL
        features, leaves = self._counted
        wanted, have = (where.leaves, leaves) if small else (where.elements, features)
        reached = sum(min(count, have[each]) * numel for each, (count, numel) in wanted.items() if each in have)
        return self.bound_of(reached / total, where.size, where.size)

    def could_reach(self, least: float, where: Place, total: int) -> bool:
        """Return whether the score at a place can be so much; features are counted where sizes do not tell."""
        bound = self.bound_of(0.0, where.size, where.size)
        if not bound or bound < least:
            bound = self.bound(where, total)
        return 0 < bound >= least

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
    features: list[Feature] = []
    leaves: list[Feature] = []
    for spec in tensors:
        parent, _, last = spec.name.rpartition(".")
        if last != COUNTER:
            # torch copies what 0.3 saved as [1] into a scalar.
            shape = () if spec.shape == (1,) else spec.shape
            last = _SAME_LEAF.get(last, last)
            leaves.append((last, shape))
            if last in _COMMON_LEAVES:
                last = f"{(parent or prefix).rpartition('.')[2]}.{last}"
            features.append((last, shape))
    return Counter(features), Counter(leaves)


def _find_places(target: Architecture) -> list[Place]:
    nodes: dict[str, list[Subtree]] = {}
    for node in target.iter_subtrees():
        if node.prefix and node.tensor_count >= MIN_TENSORS:
            nodes.setdefault(node.digest, []).append(node)
    found = [Place(target, "", target.tensors.values())]
    for first, *others in nodes.values():
        specs = _specs_below(first)
        if sum(not spec.name.endswith(COUNTER) for spec in specs) >= MIN_TENSORS:
            twins = tuple(node.prefix.removesuffix(".") for node in (first, *others))
            found.append(Place(target, twins[0], specs, twins))
    if len(found) > MAX_PLACES:
        largest = sorted(found, key=lambda each: -each.parameter_count)[:MAX_PLACES]
        names = {each.into for each in largest}
        found = [each for each in found if each.into in names]
    return found


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
    cut, below = len(prefix), {spec.name for spec in specs}
    specs = [spec for name, spec in target.tensors.items() if name in below]
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
