"""Which architectures of the index a search compares, and in which order: by the marks that they share."""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from itertools import islice
from math import prod
from typing import NamedTuple

from registry.compat.places import MIN_SHARE, MIN_USED, SMALL, Names, Shapes, Source, Target
from storage.architectures import architecture_of_document, decode_document, names_and_shapes
from storage.kept import Kept
from storage.marks import MarkedModule, feature_mark, leaf_mark, mark_modules, submodule_marks
from storage.metadata.architectures import Sharing
from storage.stores import Stores

MAX_QUERY_MARKS = 300
"""Marks of each kind that one question looks for."""
_NEGLIGIBLE = 0.02
_UNEQUAL = 0.05
"""What an architecture promises that shares tensors and no submodule, beside one whose whole trunk is the target's."""
_CACHED_TENSORS = 250_000
"""Some 65 MB, with what comparisons count of them once: 260 bytes a tensor, 700 networks of 350 tensors."""


class Candidate(NamedTuple):
    """An architecture that shares something with the target.

    Attributes:
        architecture_id, digest: of its row.
        bound: what its score is at most.
        promise: orders candidates by what the submodules that are equal in both would make, and by the bound.
        shares_module: whether a submodule, counters and wrappers aside, is equal in both.
    """

    architecture_id: int
    digest: str
    bound: float
    promise: float
    shares_module: bool


def find_candidates(stores: Stores, target: Target) -> list[Candidate]:
    """Return the architectures that could fill enough of the target or be used enough, the most promising first.

    Light features, which add up to `_NEGLIGIBLE` of the target, are not looked for: the bounds count them as shared.
    """
    if not target.elements:
        return []
    whole = target.places[0]
    small = len(target.architecture.tensors) <= SMALL
    features, mark = (whole.leaves, leaf_mark) if small else (whole.elements, feature_mark)
    weights: dict[int, tuple[int, int]] = {}
    left_out = target.elements
    for feature in sorted(features, key=lambda each: -prod(features[each])):
        if left_out <= _NEGLIGIBLE * target.elements or len(weights) == MAX_QUERY_MARKS:
            break
        weights[mark(feature)] = features[feature]
        left_out -= prod(features[feature])
    root = mark_modules(target.architecture)
    modules = dict(islice(submodule_marks(root).items(), MAX_QUERY_MARKS))
    least = MIN_SHARE * target.elements - left_out
    sharing = stores.catalog.find_sharing(weights, modules, worth_least=least, used_least=MIN_USED)
    outline = _Outline(root, {each: place for place, each in enumerate(modules)})
    found = [_candidate(each, target, left_out, outline) for each in sharing]
    return sorted(found, key=lambda each: (-each.promise, each.digest))


def _candidate(known: Sharing, target: Target, left_out: int, outline: "_Outline") -> Candidate:
    share = min(1.0, (known.worth + left_out) / target.elements)
    size = len(target.architecture.tensors)
    bound = share * (1 + size / max(size, known.weight_count)) / 2 + 1e-6  # see `Source.bound`
    elements, tensors = outline.count_equal(known.submodules)
    equal = min(1.0, elements / target.elements) * (1 + min(1.0, tensors / max(1, known.weight_count))) / 2
    return Candidate(known.architecture_id, known.digest, bound, bound * (equal + _UNEQUAL), bool(known.submodules))


class _Outline:
    """The modules of a target that were asked for, parents first, each with where those below it end.

    Args:
        root: the whole.
        places: of the modules in the question, by mark.
    """

    def __init__(self, root: MarkedModule, places: dict[int, int]) -> None:
        self._steps: list[tuple[int | None, int, int, int]] = []
        self._places = places
        self._add(root)

    def _add(self, module: MarkedModule) -> None:
        at, place = len(self._steps), self._places.get(module.mark)
        self._steps.append((place, module.elements, module.tensors, 0))
        for each in module.submodules:
            self._add(each)
        if place is None and len(self._steps) == at + 1:
            del self._steps[at]  # nothing of it was asked for
        else:
            self._steps[at] = (place, module.elements, module.tensors, len(self._steps))

    def count_equal(self, places: AbstractSet[int]) -> tuple[int, int]:
        """Return how many elements and tensors lie in some of the modules, those inside others counted once."""
        elements = tensors = at = 0
        while at < len(self._steps):
            place, has_elements, has_tensors, end = self._steps[at]
            if place in places:
                elements += has_elements
                tensors += has_tensors
                at = end
            else:
                at += 1
        return elements, tensors


def find_kept(candidates: Iterable[Candidate]) -> dict[int, Source]:
    """Return, by their ids, those architectures that this process has made lately: no document of them is needed.

    Whoever asks must still be told by the database that the architecture is in use, and that they may see it.
    """
    found = {each.architecture_id: _kept.find(each.digest) for each in candidates}
    return {at: source for at, source in found.items() if source is not None}


def find_source(
    candidate: Candidate, document: bytes | Source, leave_out: Callable[[Names, Shapes], bool]
) -> Source | None:
    """Return the architecture of a candidate, None when its names and shapes are to be left out.

    Most of the work of reading one comes after that.
    """
    if isinstance(document, Source):
        return None if leave_out(document.names, document.shapes) else document
    decoded = decode_document(document)
    if leave_out(*names_and_shapes(decoded)):
        return None
    source = Source(architecture_of_document(decoded))
    _kept.keep(candidate.digest, source)
    return source


_kept: Kept[str, Source] = Kept(_CACHED_TENSORS, lambda each: len(each.architecture.tensors))
"""A digest means one architecture for ever, whatever the registry."""
