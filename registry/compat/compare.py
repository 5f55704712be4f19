"""The comparison: what loading one state_dict into one module would do, before anything is loaded."""

from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from itertools import tee

from registry.architecture import Architecture
from registry.compat.adapters import find_adapter, find_first_convs
from registry.compat.casts import classify_cast
from registry.compat.heads import find_head, guess_head
from registry.compat.judge import are_other_networks, coverage, has_gap, is_next_to_nothing, judge
from registry.compat.leftovers import Outline, iter_unexpected, lies_in
from registry.compat.pairing import Pairing, pair_up
from registry.compat.rename_map import Prefix, Rename, RenameMap, request_renames, same_order
from registry.compat.renames import find_renames
from registry.compat.report import Adapter, Cast, CompatibilityReport, Mismatch, TiedConflict, Unexpected
from registry.tensor_spec import TensorSpec

COMPARED = "Compared: names and shapes. Not compared: what the forward pass computes with them."


def compare(
    source: Architecture,
    target: Architecture,
    *,
    prefix: Prefix = "auto",
    rename: Rename | None = None,
    renames: RenameMap | None = None,
    classifier: Sequence[str] = (),
    first_conv: Sequence[str] = (),
) -> CompatibilityReport:
    """Return what loading `source` into `target` would do.

    Args:
        source: what was saved.
        target: what shall be filled.
        prefix: `"auto"` finds the map; `""` keeps names; `(strip, add)` replaces a prefix of source names.
        rename: a dict, a function or `"by-order"`, applied after the prefix; see `request_renames`.
        renames: a map made before, instead of the two above.
        classifier: the source's recorded head modules.
        first_conv: the target's recorded first convolution modules.

    Raises:
        AmbiguousPrefixError: no map is clearly best, or two names fall together.
        InvalidRequestError: `prefix` or `rename` concerns no tensor.
    """
    if renames is None and prefix == "auto" and rename is None:
        renames = find_renames(source, target)
    elif renames is None:
        renames = request_renames(source, target, prefix, rename)
    return Comparison(source, target, renames, classifier=classifier, first_conv=first_conv).report()


class Comparison:
    """Two architectures whose tensors are paired: how much fits is known, what that means is looked at by `report`.

    Args:
        source: what was saved.
        target: what shall be filled.
        renames: where every source name goes.
        classifier: the source's recorded head modules.
        first_conv: the target's recorded first convolution modules.

    Attributes:
        renames: where every source name goes.
        matched: target name → source name of what would be copied.
    """

    def __init__(
        self,
        source: Architecture,
        target: Architecture,
        renames: RenameMap,
        *,
        classifier: Sequence[str] = (),
        first_conv: Sequence[str] = (),
    ) -> None:
        self._source = source
        self._target = target
        self.renames = renames
        self._pairing = pair_up(source, target, renames)
        self.matched = self._pairing.matched
        self._classifier = classifier
        self._first_conv = first_conv

    @cached_property
    def _explained(self) -> tuple[list[Mismatch], list[str], bool]:
        return _explain_mismatches(self._source, self._target, self._pairing, self._classifier, self._first_conv)

    @property
    def mismatched(self) -> list[Mismatch]:
        """Pairs of one name and two shapes."""
        return self._explained[0]

    @property
    def are_others(self) -> bool:
        """Whether so little fits, or so much differs in shape, that the two are different networks."""
        source, target, count = self._source, self._target, len(self.matched)
        return is_next_to_nothing(source, target, count) or are_other_networks(source, target, count, self.mismatched)

    @property
    def used(self) -> float:
        """Fraction of the source's tensors that would be copied, 0 to 1, entries not counted."""
        return len(self.matched) / max(1, len(self.matched) + len(self._pairing.unexpected))

    @cached_property
    def coverage(self) -> float:
        """What the report will say as `coverage`."""
        if len(self.matched) == len(self._target.tensors):
            return 1.0
        return coverage(self._target, {*self.matched, *self._pairing.tied_to})

    @property
    def ceiling(self) -> float:
        """What the report's `score` is at most; entries that are left over make it less."""
        return self.coverage * (1 - (1 - self.used) / 2)

    @property
    def is_obstructed(self) -> bool:
        """Whether a trunk is cut off, stays unfilled or is another: of the report's `reasons` those that most have."""
        foreign = any(each.adapter is None for each in self.mismatched)
        return foreign or self._has_gap or any(each.leftover == "trunk" for each in self.iter_unexpected())

    def report(self) -> CompatibilityReport:
        """Return what the load would do."""
        report = self._draft
        report.unexpected = list(self.iter_unexpected())
        judge(report, self._source, self._target, unfilled=self._has_gap)
        return report

    def iter_unexpected(self) -> Iterator[Unexpected]:
        """Yield what is left over of the source, each with its class: looked for when it is asked for, and once."""
        return copy(self._unexpected)

    @cached_property
    def _has_gap(self) -> bool:
        """Whether the target's trunk stays unfilled in places."""
        return has_gap(self._draft, self._target)

    @cached_property
    def _draft(self) -> CompatibilityReport:
        """The report without what is left over of the source, and not judged."""
        source, target, pairing = self._source, self._target, self._pairing
        missing, _ = _compare_entries(source, target, self.renames)
        return CompatibilityReport(
            verdict="exact",
            needs=[],
            reasons=[],
            missing=[*pairing.missing, *missing],
            tied=list(pairing.tied_to),
            tied_to=pairing.tied_to,
            unexpected=[],
            mismatched=self.mismatched,
            casts=_find_casts(pairing),
            conflicts=_find_conflicts(source, target, pairing),
            counters=pairing.counters,
            dropped=pairing.dropped,
            matched=pairing.matched,
            renames=self.renames,
            head=self._explained[1],
            head_guessed=self._explained[2],
            coverage=1.0,
            score=1.0,
            by_order=_offers_order(source, target, pairing),
            notices=[COMPARED],
        )

    @cached_property
    def _unexpected(self) -> Iterator[Unexpected]:
        _, entries = _compare_entries(self._source, self._target, self.renames)
        names = [*self._pairing.unexpected, *entries]
        if not names:
            return iter(())
        roots = [rule.strip for rule in self.renames.rules] or [""]
        tensors, (_, head, guessed) = self._source.tensors, self._explained
        found = iter_unexpected(names, tensors, self._outline, head=head, guessed=guessed, roots=roots)
        return tee(found, 1)[0]

    @cached_property
    def _outline(self) -> Outline:
        """Of the source."""
        pairing, source = self._pairing, self._source
        used = {*pairing.matched.values(), *(have.name for have, _ in pairing.mismatched), *pairing.dropped}
        return Outline(list(source.tensors), used, ordered=source.is_ordered)


def _compare_entries(source: Architecture, target: Architecture, renames: RenameMap) -> tuple[list[str], list[str]]:
    """Return the entries (`_extra_state`) that only the target has, and those that only the source has."""
    renamed = {renames.names[name]: name for name in source.entries}
    wanted = set(target.entries)
    missing = [name for name in target.entries if name not in renamed]
    return missing, [name for to, name in renamed.items() if to not in wanted]


def _explain_mismatches(
    source: Architecture, target: Architecture, pairing: Pairing, classifier: Sequence[str], first_conv: Sequence[str]
) -> tuple[list[Mismatch], list[str], bool]:
    """Return every mismatch with what could mend it, the source's head modules, and whether those are a guess."""
    if not pairing.mismatched:
        headless = pairing.missing and not pairing.unexpected
        head = list(classifier) or ([] if headless else guess_head(source))
        return [], head, not classifier and bool(head)
    first_convs = find_first_convs(target.tensors.values(), first_conv)
    adapters: dict[str, Adapter | None] = {
        want.name: find_adapter(have, want, first_convs=first_convs) for have, want in pairing.mismatched
    }
    unmended = [(have, want) for have, want in pairing.mismatched if adapters[want.name] is None]
    head, guessed = list(classifier), False
    if not head and unmended:
        head = find_head(source, target, unmended, len(pairing.matched))
    elif not head:
        head, guessed = guess_head(source), True
    sure = frozenset[str]() if guessed else frozenset(head)
    mismatches: list[Mismatch] = []
    for have, want in pairing.mismatched:
        adapter = adapters[want.name]
        if lies_in(have.name, sure):
            adapter = "head"
        mismatches.append(Mismatch(want.name, have.name, have.shape, want.shape, adapter))
    return mismatches, head, guessed


def _find_casts(pairing: Pairing) -> list[Cast]:
    casts: list[Cast] = []
    for have, want in pairing.cast:
        if (have.layout, have.quantised) != (want.layout, want.quantised):
            casts.append(Cast(want.name, _kind(have), _kind(want), "refused"))
        else:
            casts.append(Cast(want.name, have.dtype, want.dtype, classify_cast(have.dtype, want.dtype)))
    return casts


def _kind(spec: TensorSpec) -> str:
    return f"quantised {spec.dtype}" if spec.quantised else f"{spec.layout} {spec.dtype}"


def _find_conflicts(source: Architecture, target: Architecture, pairing: Pairing) -> list[TiedConflict]:
    """Find tied storages of the target that several source tensors of different values would fill."""
    groups: dict[str, list[str]] = {}
    for name in pairing.tied:
        tie = target.tensors[name].tie
        if tie is not None:
            groups.setdefault(tie, []).append(name)
    conflicts: list[TiedConflict] = []
    for names in groups.values():
        specs = [source.tensors[pairing.matched[name]] for name in names]
        if len({spec.tie or spec.name for spec in specs}) > 1 and not _equal_values(specs):
            conflicts.append(TiedConflict(tuple(names), tuple(spec.name for spec in specs)))
    return conflicts


def _equal_values(specs: Sequence[TensorSpec]) -> bool:
    """Return whether the digests prove that the values are equal."""
    return None not in {spec.digest for spec in specs} and len({(spec.digest, spec.dtype) for spec in specs}) == 1


def _offers_order(source: Architecture, target: Architecture, pairing: Pairing) -> bool:
    """Return whether the tensors fit by their place but not by their names."""
    few = 2 * len(pairing.matched) < len(target.tensors)
    return few and source.is_ordered and target.is_ordered and same_order(source, target)
