"""Where in a target a source fits best: the whole of it, or one of its submodules; and how good that is."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, takewhile
from operator import mul
from typing import Any, cast

from registry.architecture import Architecture
from registry.compat.compare import Comparison
from registry.compat.judge import OTHER_TRUNK
from registry.compat.places import DIGITS, MIN_SHARE, MIN_USED, Place, Source, Target
from registry.compat.rename_map import Prefix, request_renames
from registry.compat.renames import find_renames
from registry.compat.report import CompatibilityReport, Verdict
from registry.errors import AmbiguousPrefixError

OBSTRUCTED = 0.5
"""What the score of a placement counts that has something in its way: `report.reasons`."""
OTHER_SIZE = 0.3
"""From this share of shapes on that differ under equal names, two networks are two sizes of one."""
_VERDICTS: tuple[Verdict, ...] = ("exact", "superset", "backbone", "partial", "incompatible")


@dataclass(frozen=True)
class Placement:
    """What loading a source into one place of a target would do.

    Attributes:
        into: the target's module; empty for the whole target.
        report: of the source against that module.
        share: fraction of the whole target's parameters that would be initialised, 0 to 1.
        score: the share, less half of what of the source's tensors is left over; half of that when something is in
            the way.
        prefix: what must be said, because another renaming fits about as well; None where nothing needs be said.
    """

    into: str
    report: CompatibilityReport
    share: float
    score: float
    prefix: Prefix | None = None

    @cached_property
    def source_prefix(self) -> str:
        """The source's module that everything used lies in; empty when that is the whole source."""
        return _common_module(self.report.matched.values())

    @property
    def counts(self) -> bool:
        """Whether it is worth being told: with something in the way only of the whole, and when it is near."""
        if self.report.reasons and (self.into or self.score < MIN_SHARE):
            return False
        used = len(self.report.matched) / max(1, len(self.report.matched) + len(self.report.unexpected))
        return self.report.verdict != "incompatible" and (self.share >= MIN_SHARE or used >= MIN_USED)

    @property
    def rank(self) -> tuple[Any, ...]:
        """Orders placements of one target, the best first: by score, by verdict, then by how little it needs."""
        return (-self.score, _VERDICTS.index(self.report.verdict), len(self.report.reasons), len(self.report.needs))


def place(source: Source, target: Target, floor: float = 0.0, *, look_for_equal: bool = True) -> Placement | None:
    """Return the best placement of a source in a target, None when none counts or reaches the floor.

    Of places with one rank the innermost one, then the first. What cannot be better is not compared: a submodule
    takes at most what has a partner in it under the renaming of the whole, unless the source has its equal.

    Args:
        source: what was saved.
        target: what shall be filled.
        floor: the score that is asked for at least.
        look_for_equal: False when no submodule of three tensors or more is known to be equal in both.
    """
    if not target.elements or _has_other_shapes(source.architecture, target.architecture):
        return None
    best: Placement | None = None
    inside: _Inside | None = None
    for each in target.places:
        least = floor if best is None else best.score
        if not each.into:
            could_be = True
        elif inside is None:
            could_be = source.could_reach(least, each, target.elements)
        else:
            could_be = inside.could_hold(least, each, look_for_equal=look_for_equal)
        if not could_be:
            continue
        for compared, prefix in _compare(source.architecture, each.architecture):
            if not each.into:
                inside = _Inside(compared, source, target, is_sure=prefix is None)
            if not _could_count(compared, each, target.elements, least):
                continue
            found = _weigh(compared.report(), each, target.elements, prefix)
            if found.counts and (best is None or found.rank < best.rank or _is_inner(found, best)):
                best = found
    return best if best is not None and best.score >= floor else None


def _could_count(compared: Comparison, where: Place, total: int, least: float) -> bool:
    """Return whether the report could say what counts, and is as good as is asked for: most cannot."""
    part = _part(where, total)
    score = round(part * compared.ceiling, DIGITS)
    enough = round(part * compared.coverage, DIGITS) >= MIN_SHARE or compared.used >= MIN_USED
    if not enough or score < least or compared.are_others:
        return False
    obstructed = round(part * compared.ceiling * OBSTRUCTED, DIGITS)
    could_be = not where.into and obstructed >= max(least, MIN_SHARE)
    return could_be or not compared.is_obstructed


def _has_other_shapes(source: Architecture, target: Architecture) -> bool:
    """Return whether the names are those of the target and the shapes are not: another size of the same network."""
    have, want = source.tensors, target.tensors
    common = have.keys() & want.keys()
    if 2 * len(common) < min(len(have), len(want)):
        return False
    return sum(have[name].shape != want[name].shape for name in common) > OTHER_SIZE * len(common)


class _Inside:
    """What the comparison of the whole says of the target's submodules: each takes at most what has a partner in it.

    Args:
        compared: the source and the whole target.
        source: what was saved.
        target: what shall be filled.
        is_sure: whether no other renaming fits about as well.
    """

    def __init__(self, compared: Comparison, source: Source, target: Target, *, is_sure: bool) -> None:
        self._compared = compared
        self._is_sure = is_sure
        self._source = source
        self._target = target

    @cached_property
    def _most(self) -> float:
        """What the score of any submodule is at most; 0 when none can count."""
        matched, numel = self._compared.matched, self._target.numel
        reached = sum(map(numel.__getitem__, matched))
        return self._source.bound_of(reached / self._target.elements, self._source.weight_count, len(matched))

    def could_hold(self, least: float, where: Place, *, look_for_equal: bool) -> bool:
        """Return whether the score of one submodule can be so much, and count."""
        bound = self._source.bound_of(_part(where, self._target.elements), where.size, where.size)
        if not 0 < bound >= least:
            return False
        could_be = self._most > least and self._could_reach(least, where) and not self._is_obstructed(where)
        return could_be or (look_for_equal and self._source.has_equal(where))

    def _could_reach(self, least: float, where: Place) -> bool:
        """Return the same by what has a partner in it: where it has most, of equal ones."""
        elements, total = self._elements, self._target.elements
        ranges = self._target.ranges[where.into]
        start, end = max(ranges, key=lambda each: elements[each[1]] - elements[each[0]], default=(0, 0))
        fit = self._fit[end] - self._fit[start]
        bound = self._source.bound_of((elements[end] - elements[start]) / total, where.size, fit)
        if not 0 < bound >= least:
            return False
        differ = self._differ[end] - self._differ[start]
        return differ <= OTHER_TRUNK * (fit + differ)

    def _is_obstructed(self, where: Place) -> bool:
        """Return whether all that is filled lies in one submodule: what the whole leaves over, that leaves over too."""
        count, fit = len(self._compared.matched), self._fit
        ranges = self._target.ranges[where.into]
        return any(fit[end] - fit[start] == count for start, end in ranges) and self._leaves_trunk

    @cached_property
    def _leaves_trunk(self) -> bool:
        """Whether trunk is left over, whatever submodule is compared instead that all that is filled lies in.

        That is known of what the source's module has that all used lies in: what lies beside that is no trunk for a
        submodule. Nothing is known where the submodule could have more rules, or other adapters: for a convolution
        that is the first only there.
        """
        compared = self._compared
        if not self._is_sure or len(compared.renames.rules) > 1 or compared.mismatched:
            return False
        module = _common_module(compared.matched.values())
        beside = f"{module}." if module else ""
        return any(each.leftover == "trunk" and each.name.startswith(beside) for each in compared.iter_unexpected())

    @cached_property
    def _fits(self) -> list[bool]:
        return list(map(self._compared.matched.__contains__, self._target.sorted_names))

    @cached_property
    def _fit(self) -> list[int]:
        """How many of the first names have a partner that fits, for each number of names from 0 on."""
        return [*accumulate(self._fits, initial=0)]

    @cached_property
    def _elements(self) -> list[int]:
        """The same in elements."""
        return [*accumulate(map(mul, self._fits, self._target.numel.values()), initial=0)]

    @cached_property
    def _differ(self) -> list[int]:
        """How many have a partner of another shape, and no adapter."""
        foreign = {each.name for each in self._compared.mismatched if each.adapter is None}
        return [*accumulate(map(foreign.__contains__, self._target.sorted_names), initial=0)]


def _is_inner(found: Placement, best: Placement) -> bool:
    below = not best.into or found.into.startswith(f"{best.into}.")
    return found.rank == best.rank and found.into != best.into and below


def _compare(source: Architecture, target: Architecture) -> list[tuple[Comparison, Prefix | None]]:
    """Return the comparison; under the first renaming, which is returned too, where several are about as good."""
    try:
        return [(Comparison(source, target, find_renames(source, target)), None)]
    except AmbiguousPrefixError as error:
        return _try_first(source, target, error)


def _try_first(
    source: Architecture, target: Architecture, error: AmbiguousPrefixError
) -> list[tuple[Comparison, Prefix | None]]:
    """Compare with the first of the renamings that an error lists; names that would fall together have none."""
    listed: list[Any] = error.extra.get("candidates", [])
    if not listed or not isinstance(listed[0], dict):
        return []
    first = cast("dict[str, str]", listed[0])
    prefix: Prefix = (first["strip"], first["add"]) if first["strip"] or first["add"] else ""
    try:
        return [(Comparison(source, target, request_renames(source, target, prefix, None)), prefix)]
    except AmbiguousPrefixError:
        return []


def _weigh(report: CompatibilityReport, where: Place, total: int, prefix: Prefix | None) -> Placement:
    part = _part(where, total)
    factor = OBSTRUCTED if report.reasons else 1.0
    share, score = (round(part * value, DIGITS) for value in (report.coverage, report.score * factor))
    return Placement(where.into, report, share, score, prefix)


def _part(where: Place, total: int) -> float:
    """Return the fraction of the target's elements that a place has."""
    return min(1.0, where.parameter_count / total)


def _common_module(names: Iterable[str]) -> str:
    """Return the module that all names lie in."""
    known = list(names)
    first, last = min(known, default=""), max(known, default="")
    parts = zip(first.split(".")[:-1], last.split(".")[:-1], strict=False)
    return ".".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], parts))
