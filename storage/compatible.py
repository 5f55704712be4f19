"""Which versions would load into an architecture: found through the index, ranked by comparing a few."""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod

from registry.architecture import Architecture
from registry.compat.placement import Placement, place
from registry.compat.places import MIN_SHARE, MIN_USED, SMALL, Source, Target
from registry.matches import CompatibleMatch, CompatibleVersion
from storage.access import Action, Caller, Resource, may, require
from storage.architectures import (
    check_bounds,
    decode_architecture,
    feature_mark,
    leaf_mark,
    submodule_marks,
)
from storage.metadata.architectures import ModelUse
from storage.stores import Stores

MAX_COMPARED = 120
"""Architectures that one question compares at most."""
MAX_QUERY_MARKS = 300
"""Marks of each kind that one question looks for."""
VERSIONS_SHOWN = 5
"""Models that one match names, each with its newest version in use."""
_NEGLIGIBLE = 0.02
_BATCH = 60
_READ_AHEAD = 8
_CACHED_TENSORS = 40_000


def find_compatible(
    stores: Stores,
    caller: Caller,
    architecture: Architecture,
    *,
    team: str | None = None,
    kind: str | None = None,
    limit: int = 10,
) -> list[CompatibleMatch]:
    """Return what would load into an architecture or a submodule of it, the best first, a match an architecture.

    Raises:
        TooLargeError: the architecture is larger than the service compares.
    """
    require(caller, Action.READ, Resource(team))
    check_bounds(architecture)
    target = Target(architecture)
    candidates = _find_candidates(stores, target) if target.elements else []
    found: list[_Found] = []
    compared = 0
    for start in range(0, len(candidates), _BATCH):
        batch = candidates[start : start + _BATCH]
        uses = _readable_uses(stores, caller, batch, team, kind)
        for candidate, source in _iter_sources(stores, [each for each in batch if each.architecture_id in uses]):
            floor = found[limit - 1].placement.score if len(found) >= limit else 0.0
            if candidate.bound < floor or compared == MAX_COMPARED:
                return _describe(stores, found[:limit])
            compared += 1
            placement = place(source, target, floor)
            if placement is not None:
                found.append(_Found(placement, candidate, source, uses[candidate.architecture_id]))
                found.sort(key=lambda each: (*each.placement.rank, each.candidate.digest))
    return _describe(stores, found[:limit])


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An architecture that shares something with the target, and what its score is at most."""

    architecture_id: int
    digest: str
    bound: float


@dataclass(frozen=True, slots=True)
class _Found:
    """A placement, the architecture that has it, and the models whose versions in use have that."""

    placement: Placement
    candidate: _Candidate
    source: Source
    uses: list[ModelUse]


def _find_candidates(stores: Stores, target: Target) -> list[_Candidate]:
    """Return the architectures that could fill enough of the target or be used enough, the most promising first.

    Light features, which add up to `_NEGLIGIBLE` of the target, are not looked for: the bounds count them as shared.
    """
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
    reached: defaultdict[int, int] = defaultdict(int)
    shared: dict[int, int] = {}
    for found, architecture_id, count in stores.catalog.find_marks([*weights, *modules]):
        if found in weights:
            wanted, numel = weights[found]
            reached[architecture_id] += min(wanted, count) * numel
        else:
            shared[architecture_id] = max(shared.get(architecture_id, 0), modules[found])
    least = MIN_SHARE * target.elements - left_out
    ids = [each for each in {*reached, *shared} if reached[each] >= least or each in shared]
    return sorted(
        (
            _Candidate(each, digest, _bound((reached[each] + left_out) / target.elements, size, target))
            for each, (digest, size) in stores.catalog.find_weight_counts(ids).items()
            if reached[each] >= least or shared[each] >= MIN_USED * size
        ),
        key=lambda each: (-each.bound, each.digest),
    )


def _bound(share: float, weight_count: int, target: Target) -> float:
    """Return what the score of an architecture is at most: see `Source.bound`."""
    size = len(target.architecture.tensors)
    return min(1.0, share) * (1 + size / max(size, weight_count)) / 2 + 1e-6


def _readable_uses(
    stores: Stores, caller: Caller, candidates: Sequence[_Candidate], team: str | None, kind: str | None
) -> dict[int, list[ModelUse]]:
    """Return, for the architectures that some version in use has that the caller may read, the models of those."""
    found: defaultdict[int, list[ModelUse]] = defaultdict(list)
    ids = [each.architecture_id for each in candidates]
    for use in stores.catalog.find_model_uses(ids, team=team, kind=kind):
        if may(caller, Action.READ, Resource(use.team, use.model)):
            found[use.architecture_id].append(use)
    return found


def _iter_sources(stores: Stores, candidates: Sequence[_Candidate]) -> Iterator[tuple[_Candidate, Source]]:
    """Yield candidates with their architectures, read a few at a time: most questions end after a few."""
    for start in range(0, len(candidates), _READ_AHEAD):
        batch = candidates[start : start + _READ_AHEAD]
        known = {each.digest: found for each in batch if (found := _sources.find(each.digest)) is not None}
        missing = [each.digest for each in batch if each.digest not in known]
        documents = stores.catalog.find_documents(missing) if missing else {}
        for each in batch:
            source = known.get(each.digest)
            if source is None and each.digest in documents:
                source = Source(decode_architecture(documents[each.digest]))
                _sources.keep(each.digest, source)
            if source is not None:
                yield each, source


class _Sources:
    """Architectures that were looked at last. A digest means one architecture for ever, whatever the registry."""

    def __init__(self, tensors: int) -> None:
        self._room = tensors
        self._kept: OrderedDict[str, Source] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, digest: str) -> Source | None:
        """Return an architecture if it is here."""
        with self._lock:
            found = self._kept.get(digest)
            if found is not None:
                self._kept.move_to_end(digest)
            return found

    def keep(self, digest: str, source: Source) -> None:
        """Keep an architecture, in place of those that nobody looked at for longest."""
        with self._lock:
            if digest in self._kept:
                return
            self._kept[digest] = source
            self._room -= len(source.architecture.tensors)
            while self._room < 0:
                _, gone = self._kept.popitem(last=False)
                self._room += len(gone.architecture.tensors)


_sources = _Sources(_CACHED_TENSORS)


def _describe(stores: Stores, found: Sequence[_Found]) -> list[CompatibleMatch]:
    shown = {
        each.candidate.architecture_id: sorted(each.uses, key=lambda use: -use.newest_id)[:VERSIONS_SHOWN]
        for each in found
    }
    newest = [use.newest_id for uses in shown.values() for use in uses]
    versions: defaultdict[int, list[CompatibleVersion]] = defaultdict(list)
    for use in stores.catalog.find_version_uses(list(shown), newest) if newest else []:
        if use.version_id in {each.newest_id for each in shown[use.architecture_id]}:
            versions[use.architecture_id].append(use.version)
    return [_match(each, versions[each.candidate.architecture_id]) for each in found]


def _match(found: _Found, versions: list[CompatibleVersion]) -> CompatibleMatch:
    placement, report = found.placement, found.placement.report
    return CompatibleMatch(
        architecture=found.candidate.digest,
        into=placement.into,
        source_prefix=placement.source_prefix,
        prefix=placement.prefix,
        verdict=report.verdict,
        loads=report.loads,
        needs=report.needs,
        reasons=report.reasons,
        coverage=report.coverage,
        share=placement.share,
        score=placement.score,
        matched=len(report.matched),
        tensors=len(found.source.architecture.tensors),
        versions=versions,
        version_count=sum(use.version_count for use in found.uses),
        model_count=len(found.uses),
    )
