"""Which architectures of the index a search compares, and in which order: by marks, then by names."""

from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from math import prod
from typing import Any, NamedTuple

from registry.compat.places import MIN_SHARE, MIN_USED, SMALL, Place, Source, Target
from storage.architectures import (
    architecture_of_document,
    decode_document,
    feature_mark,
    leaf_mark,
    submodule_marks,
)
from storage.kept import Kept
from storage.metadata.architectures import Sharing
from storage.stores import Stores

MAX_QUERY_MARKS = 300
"""Marks of each kind that one question looks for."""
_NEGLIGIBLE = 0.02
_LOOKED_AT = 4
_CACHED_TENSORS = 100_000
"""Some 30 MB, with what comparisons count of them once."""


class Candidate(NamedTuple):
    """An architecture that shares something with the target, and what its score is at most.

    `shares_module` says whether a submodule, counters and wrappers aside, is equal in both.
    """

    architecture_id: int
    digest: str
    bound: float
    shares_module: bool


class StoredArchitecture:
    """An architecture as the index keeps it: names and shapes at once, what a comparison needs when it is asked for.

    Args:
        document: its document, decoded.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        shapes: list[list[int]] = document["shapes"]
        known = [tuple(each) for each in shapes]
        self.names: list[str] = document["names"]
        places: list[int] = document["shape"]
        self.shapes: dict[str, tuple[int, ...]] = {name: known[at] for name, at in zip(self.names, places, strict=True)}
        self._document = document

    @cached_property
    def source(self) -> Source:
        """The architecture, and what is counted of it."""
        return Source(architecture_of_document(self._document))


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
    modules = dict(islice(submodule_marks(target.architecture).items(), MAX_QUERY_MARKS))
    least = MIN_SHARE * target.elements - left_out
    sharing = stores.catalog.find_sharing(weights, modules, worth_least=least, used_least=MIN_USED)
    return sorted(
        (
            Candidate(each.architecture_id, each.digest, _bound(each, left_out, target), each.tensors > 0)
            for each in sharing
        ),
        key=lambda each: (-each.bound, each.digest),
    )


def _bound(known: Sharing, left_out: int, target: Target) -> float:
    """Return what the score of an architecture is at most: see `Source.bound`."""
    share = min(1.0, (known.worth + left_out) / target.elements)
    size = len(target.architecture.tensors)
    return share * (1 + size / max(size, known.weight_count)) / 2 + 1e-6


def read_stored(
    stores: Stores, target: Target, candidates: Sequence[Candidate]
) -> list[tuple[Candidate, StoredArchitecture]]:
    """Return candidates with their architectures, those first that promise most; what is gone meanwhile is missing."""
    known = {each.digest: found for each in candidates if (found := _kept.find(each.digest)) is not None}
    missing = [each.digest for each in candidates if each.digest not in known]
    for digest, document in (stores.catalog.find_documents(missing) if missing else {}).items():
        known[digest] = StoredArchitecture(decode_document(document))
        _kept.keep(digest, known[digest])
    places = sorted(target.places, key=lambda each: -each.parameter_count)[:_LOOKED_AT]
    promising = [
        (-min(each.bound, _predict(known[each.digest], places, target) or each.bound), each.digest, each)
        for each in candidates
        if each.digest in known
    ]
    return [(each, known[digest]) for _, digest, each in sorted(promising, key=lambda one: one[:2])]


def _predict(stored: StoredArchitecture, places: Sequence[Place], target: Target) -> float:
    """Return the score that equal names and shapes alone make, at the best of some places; 0 where those are few."""
    best = 0.0
    names, size = stored.shapes.keys(), len(stored.names)
    for where in places:
        tensors = where.architecture.tensors
        known = names & tensors.keys()
        if 2 * len(known) < min(len(tensors), size):
            continue
        same = [spec for name in known if (spec := tensors[name]).shape == stored.shapes[name]]
        if 2 * len(same) >= min(len(tensors), size):
            filled = sum(spec.numel for spec in same if spec.role != "buffer") / target.elements
            left = size - len(known)
            best = max(best, filled * (1 - left / (left + len(same)) / 2))
    return best


_kept: Kept[str, StoredArchitecture] = Kept(_CACHED_TENSORS, lambda each: len(each.names))
"""A digest means one architecture for ever, whatever the registry."""
