"""Which versions would load into an architecture: found through the index, ranked by comparing a few."""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from registry.architecture import Architecture
from registry.compat.placement import Placement, place
from registry.compat.places import Names, Shapes, Source, Target
from registry.matches import CompatibleMatch
from storage.access import Caller
from storage.admission import sight_of
from storage.architectures import check_bounds
from storage.metadata.architectures import ArchitectureUses
from storage.metadata.records import UseQuery
from storage.shortlist import Candidate, find_candidates, find_kept, find_source
from storage.stores import Stores

MAX_COMPARED = 60
"""Architectures that one question compares at most."""
PATIENCE = 12
"""After so many that were compared in vain, in the order of what they promise, no other is; twice as many while there
are fewer matches than were asked for."""
VERSIONS_SHOWN = 5
"""Models that one match names, each with its newest version in use."""
_BATCH = 60
"""Architectures that are read at a time."""


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
    wanted = UseQuery(sight_of(caller), team, kind)
    check_bounds(architecture)
    target = Target(architecture)
    search = _Search(target, limit)
    candidates = find_candidates(stores, target)
    for start in range(0, len(candidates), _BATCH):
        if search.is_over:
            break
        batch = [each for each in candidates[start : start + _BATCH] if each.bound >= search.floor]
        kept = find_kept(batch)
        used = stores.catalog.find_used([each.architecture_id for each in batch], wanted, known=kept) if batch else {}
        documents = kept | {each: document for each, document in used.items() if document is not None}
        search.compare((each, documents[each.architecture_id]) for each in batch if each.architecture_id in used)
    found = search.found[:limit]
    uses = (
        stores.catalog.find_uses([each.candidate.architecture_id for each in found], wanted, shown=VERSIONS_SHOWN)
        if found
        else {}
    )
    return [_match(each, used) for each in found if (used := uses.get(each.candidate.architecture_id)) is not None]


@dataclass(frozen=True, slots=True)
class _Found:
    """A placement, and the architecture that has it."""

    placement: Placement
    candidate: Candidate
    source: Source

    @property
    def rank(self) -> tuple[Any, ...]:
        """Orders matches: of equal ones, that with the lower digest first."""
        return (*self.placement.rank, self.candidate.digest)


class _Search:
    """What was found so far, and whether looking on is worth it."""

    def __init__(self, target: Target, limit: int) -> None:
        self.found: list[_Found] = []
        self._target = target
        self._limit = limit
        self._compared = 0
        self._in_vain = 0
        self._vain: list[Source] = []
        """Those that resemble one of these differ in their heads, and promise no more than it did."""

    @property
    def floor(self) -> float:
        """The score that a match needs to be among those that are asked for."""
        return self.found[self._limit - 1].placement.score if len(self.found) >= self._limit else 0.0

    @property
    def is_over(self) -> bool:
        """Whether enough was compared, or enough of it in vain."""
        patience = PATIENCE if self.floor else 2 * PATIENCE
        return self._compared >= MAX_COMPARED or self._in_vain >= patience

    def compare(self, candidates: Iterable[tuple[Candidate, bytes | Source]]) -> None:
        """Compare the target with architectures, given with their documents or made, the most promising first."""
        for candidate, document in candidates:
            if self.is_over:
                return
            source = None if candidate.bound < self.floor else find_source(candidate, document, self._is_in_vain)
            if source is None:
                continue
            placement = place(source, self._target, self.floor, look_for_equal=candidate.shares_module)
            self._compared += 1
            self._in_vain += 1
            if placement is not None:
                found = _Found(placement, candidate, source)
                insort(self.found, found, key=lambda each: each.rank)
                if found in self.found[: self._limit]:
                    self._in_vain = 0
            if self._in_vain:
                self._vain.append(source)

    def _is_in_vain(self, names: Names, shapes: Shapes) -> bool:
        """Return whether a network of such tensors was compared in vain, but for its head."""
        return any(each.resembles(names, shapes) for each in self._vain)


def _match(found: _Found, uses: ArchitectureUses) -> CompatibleMatch:
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
        versions=uses.versions,
        version_count=uses.version_count,
        model_count=uses.model_count,
    )
