"""The comparison: what loading one state_dict into one module would do, before anything is loaded."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from registry.architecture import Architecture, TensorSpec
from registry.compat.adapters import find_adapter, find_first_convs
from registry.compat.casts import classify_cast
from registry.compat.heads import find_head, guess_head
from registry.compat.judge import judge
from registry.compat.leftovers import Outline, classify_unexpected, lies_in
from registry.compat.rename_map import Prefix, Rename, RenameMap, request_renames, same_order
from registry.compat.renames import find_renames
from registry.compat.report import Adapter, Cast, CompatibilityReport, Mismatch, TiedConflict, Unexpected
from registry.compat.rules import find_load_rules, fits

COMPARED = "Compared: names and shapes. Not compared: what the forward pass computes with them."


@dataclass(slots=True)
class _Pairing:
    """Every name of both sides, sorted into what fits and what does not."""

    matched: dict[str, str] = field(default_factory=dict[str, str])
    mismatched: list[tuple[TensorSpec, TensorSpec]] = field(default_factory=list[tuple[TensorSpec, TensorSpec]])
    unexpected: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])
    cast: list[tuple[TensorSpec, TensorSpec]] = field(default_factory=list[tuple[TensorSpec, TensorSpec]])
    tied: list[str] = field(default_factory=list[str])

    def match(self, have: TensorSpec, want: TensorSpec) -> None:
        """Note a pair of which torch copies one to the other."""
        self.matched[want.name] = have.name
        if have.dtype != want.dtype or have.layout != want.layout or have.quantised != want.quantised:
            self.cast.append((have, want))
        if want.tie is not None:
            self.tied.append(want.name)


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
    pairing = _pair(source, target, renames)
    rules = find_load_rules(source, target, renames, missing=pairing.missing, unexpected=pairing.unexpected)
    if rules.filled:
        for name, source_name in rules.filled.items():
            pairing.match(source.tensors[source_name], target.tensors[name])
        _leave_out(pairing.missing, rules.filled)
        _leave_out(pairing.unexpected, rules.filled.values())
    _leave_out(pairing.missing, rules.counters)
    _leave_out(pairing.unexpected, rules.dropped)
    tied = _find_tied(target, pairing) if pairing.missing and pairing.tied else {}
    _leave_out(pairing.missing, tied)
    mismatched, head, guessed = _explain_mismatches(source, target, pairing, classifier, first_conv)
    report = CompatibilityReport(
        verdict="exact",
        needs=[],
        reasons=[],
        missing=pairing.missing,
        tied=list(tied),
        tied_to=tied,
        unexpected=[],
        mismatched=mismatched,
        casts=_find_casts(pairing),
        conflicts=_find_conflicts(source, target, pairing),
        counters=rules.counters,
        dropped=rules.dropped,
        matched=pairing.matched,
        renames=renames,
        head=head,
        head_guessed=guessed,
        coverage=1.0,
        score=1.0,
        by_order=_offers_order(source, target, pairing),
        notices=[COMPARED],
    )
    _compare_entries(source, target, renames, pairing)
    report.unexpected = _classify(source, pairing, report)
    judge(report, source, target)
    return report


def _pair(source: Architecture, target: Architecture, renames: RenameMap) -> _Pairing:
    pairing = _Pairing()
    matched, find, names = pairing.matched, target.tensors.get, renames.names
    for name, spec in source.tensors.items():
        want = find(names[name])
        if want is None:
            pairing.unexpected.append(name)
        elif want.shape == spec.shape and want.dtype == spec.dtype and want.tie is None:
            # What nearly all are; the same as `match`, without the call.
            matched[want.name] = name
            if spec.layout != want.layout or spec.quantised != want.quantised:
                pairing.cast.append((spec, want))
        elif fits(spec, want):
            pairing.match(spec, want)
        else:
            pairing.mismatched.append((spec, want))
    if len(matched) + len(pairing.mismatched) < len(target.tensors):
        met = {want.name for _, want in pairing.mismatched}
        pairing.missing = [name for name in target.tensors if name not in matched and name not in met]
    return pairing


def _compare_entries(source: Architecture, target: Architecture, renames: RenameMap, pairing: _Pairing) -> None:
    """Add the entries (`_extra_state`) that only one side has."""
    renamed = {renames.names[name]: name for name in source.entries}
    wanted = set(target.entries)
    pairing.missing.extend(name for name in target.entries if name not in renamed)
    pairing.unexpected.extend(name for to, name in renamed.items() if to not in wanted)


def _leave_out(names: list[str], others: Collection[str]) -> None:
    if others:
        gone = set(others)
        names[:] = [name for name in names if name not in gone]


def _find_tied(target: Architecture, pairing: _Pairing) -> dict[str, str]:
    """Return the names that nothing fills, whose storage another name fills, with the source of that."""
    filled = {target.tensors[name].tie: pairing.matched[name] for name in pairing.tied}
    ties = {name: target.tensors[name].tie for name in pairing.missing if name in target.tensors}
    return {name: filled[tie] for name, tie in ties.items() if tie is not None and tie in filled}


def _explain_mismatches(
    source: Architecture, target: Architecture, pairing: _Pairing, classifier: Sequence[str], first_conv: Sequence[str]
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


def _classify(source: Architecture, pairing: _Pairing, report: CompatibilityReport) -> list[Unexpected]:
    if not pairing.unexpected:
        return []
    used = {*pairing.matched.values(), *(have.name for have, _ in pairing.mismatched), *report.dropped}
    outline = Outline(list(source.tensors), used, ordered=source.is_ordered)
    roots = [rule.strip for rule in report.renames.rules] or [""]
    classes = classify_unexpected(
        pairing.unexpected, source.tensors, outline, head=report.head, guessed=report.head_guessed, roots=roots
    )
    return [Unexpected(name, classes[name]) for name in pairing.unexpected]


def _find_casts(pairing: _Pairing) -> list[Cast]:
    casts: list[Cast] = []
    for have, want in pairing.cast:
        if (have.layout, have.quantised) != (want.layout, want.quantised):
            casts.append(Cast(want.name, _kind(have), _kind(want), "refused"))
        else:
            casts.append(Cast(want.name, have.dtype, want.dtype, classify_cast(have.dtype, want.dtype)))
    return casts


def _kind(spec: TensorSpec) -> str:
    return f"quantised {spec.dtype}" if spec.quantised else f"{spec.layout} {spec.dtype}"


def _find_conflicts(source: Architecture, target: Architecture, pairing: _Pairing) -> list[TiedConflict]:
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


def _offers_order(source: Architecture, target: Architecture, pairing: _Pairing) -> bool:
    """Return whether the tensors fit by their place but not by their names."""
    few = 2 * len(pairing.matched) < len(target.tensors)
    return few and source.is_ordered and target.is_ordered and same_order(source, target)
