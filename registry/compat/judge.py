"""The verdict: coverage in one word, what the load needs, and what stands in its way."""

from collections.abc import Collection, Sequence
from itertools import takewhile
from math import prod

from registry.architecture import Architecture
from registry.compat.leftovers import COUNTER, Outline
from registry.compat.report import CompatibilityReport, Mismatch, Need, Verdict

OTHER_TRUNK = 0.1
"""From this share of mismatched names on, the trunks are different networks; and up to this share of matched ones."""
_PARTIAL_REASONS = {
    "truncated_trunk",
    "unfilled_trunk",
    "other_trunk",
    "tied_conflict",
    "missing_entries",
}
_STATISTICS = "running_mean"


def judge(
    report: CompatibilityReport, source: Architecture, target: Architecture, *, unfilled: bool | None = None
) -> None:
    """Fill in verdict, needs, reasons, coverage and score from what was found, in place of what was there.

    Args:
        report: on what was found.
        source: what was saved.
        target: what shall be filled.
        unfilled: what `has_gap` says, where that is known.
    """
    foreign = [each for each in report.mismatched if each.adapter is None]
    missing = [name for name in report.missing if not name.endswith(COUNTER)]
    hooked = bool(report.hooked)
    other = are_other_networks(source, target, len(report.matched), report.mismatched, hooked=hooked)
    found = {
        "truncated_trunk": any(each.leftover == "trunk" for each in report.unexpected),
        "unfilled_trunk": has_gap(report, target) if unfilled is None else unfilled,
        "other_trunk": bool(foreign) or other or _loses_statistics(report),
        "refused_cast": any(each.effect == "refused" for each in report.casts),
        "tied_conflict": bool(report.conflicts),
        "missing_entries": any(name not in target.tensors for name in missing),
        "load_hook": "load_hook" in report.reasons,
    }
    report.reasons = [reason for reason, applies in found.items() if applies]
    report.verdict = "incompatible" if other or found["load_hook"] else _find_verdict(report, missing)
    report.needs = _find_needs(report, missing)
    if len(report.matched) < len(target.tensors):
        report.coverage = coverage(target, {*report.matched, *report.tied, *report.hooked})
    left = len(report.unexpected) / max(1, len(report.unexpected) + len(report.matched))
    report.score = report.coverage * (1 - left / 2)


def are_other_networks(
    source: Architecture,
    target: Architecture,
    matched_count: int,
    mismatched: Sequence[Mismatch],
    *,
    hooked: bool = False,
) -> bool:
    """Return whether two networks have next to nothing in common, or too much that nothing could mend.

    Args:
        source: what was saved.
        target: what shall be filled.
        matched_count: how many pairs fit.
        mismatched: the pairs that do not.
        hooked: whether code of the target fills something of its own; then few pairs say nothing.
    """
    foreign = sum(each.adapter is None for each in mismatched)
    few = is_next_to_nothing(source, target, matched_count) and not hooked
    return few or foreign > OTHER_TRUNK * (matched_count + len(mismatched))


def is_next_to_nothing(source: Architecture, target: Architecture, matched_count: int) -> bool:
    """Return whether so few pairs fit that two networks have nothing in common but by chance."""
    return matched_count < OTHER_TRUNK * min(len(source.tensors), len(target.tensors))


def _loses_statistics(report: CompatibilityReport) -> bool:
    """Return whether a BatchNorm's weights would be used without its statistics: the target normalises otherwise."""
    left = [each.name.removesuffix(_STATISTICS) for each in report.unexpected if each.name.endswith(_STATISTICS)]
    if not left:
        return False
    used = set(report.matched.values())
    return any(f"{owner}weight" in used for owner in left)


def find_gaps(report: CompatibilityReport, target: Architecture, missing: Collection[str]) -> list[str]:
    """Return which of the missing target names lie within the target's trunk: no head or decoder, but a gap."""
    used = _used(report)
    if not used:
        return list(missing)
    outline, roots = Outline(list(target.tensors), used, ordered=target.is_ordered), _roots(report)
    places: dict[str, bool] = {}
    gaps: list[str] = []
    for name in missing:
        branch = outline.unused_branch(name)
        if branch not in places:
            places[branch] = name in target.tensors and outline.has_gap([name], roots)
        gaps += [name] if places[branch] else []
    return gaps


def has_gap(report: CompatibilityReport, target: Architecture) -> bool:
    """Return whether the target's trunk stays unfilled in places."""
    if all(name.endswith(COUNTER) for name in report.missing):
        return False
    used = _used(report)
    if not used:
        return True
    outline = Outline(list(target.tensors), used, ordered=target.is_ordered)
    missing = [name for name in report.missing if name in target.tensors and not name.endswith(COUNTER)]
    return outline.has_gap(missing, _roots(report))


def _used(report: CompatibilityReport) -> set[str]:
    """Return the target names that take part; a mismatched one is in its place, if not of its size."""
    return {*report.matched, *report.hooked, *report.tied, *(each.name for each in report.mismatched)}


def _roots(report: CompatibilityReport) -> tuple[str, ...]:
    """Return the prefixes that everything filled has: what lies outside is a tower, decoder or head beside it."""
    if len(report.renames.rules) > 1:
        return tuple(rule.add for rule in report.renames.rules)
    filled = [*report.matched, *(each.name for each in report.mismatched)]
    if not filled:
        return ("",)
    first, last = min(filled).split("."), max(filled).split(".")
    common = list(takewhile(lambda pair: pair[0] == pair[1], zip(first[:-1], last[:-1], strict=False)))
    return ("".join(f"{part}." for part, _ in common),)


def _find_verdict(report: CompatibilityReport, missing: list[str]) -> Verdict:
    if not report.matched and not report.hooked and (report.mismatched or missing or report.unexpected):
        return "incompatible"
    adapters = {each.adapter for each in report.mismatched}
    if adapters - {"head"} or _PARTIAL_REASONS & set(report.reasons):
        return "partial"
    if adapters or missing:
        return "backbone"
    return "superset" if report.unexpected else "exact"


def _find_needs(report: CompatibilityReport, missing: list[str]) -> list[Need]:
    if report.verdict == "incompatible":
        return ["rename"] if report.by_order else []
    adapters = {each.adapter for each in report.mismatched}
    found: list[tuple[Need, bool]] = [
        ("rename", not report.renames.is_identity),
        ("cast", any(each.effect != "none" for each in report.casts)),
        ("drop_extra", bool(report.unexpected)),
        (
            "new_head",
            "head" in adapters or (bool(missing) and not {"unfilled_trunk", "missing_entries"} & set(report.reasons)),
        ),
        ("adapt_first_conv", "adapt_first_conv" in adapters),
        ("resize_position", "resize_position" in adapters),
        ("resize_vocabulary", "resize_vocabulary" in adapters),
        ("fill_counters", _lacks_counters(report)),
    ]
    return [need for need, needed in found if needed]


def _lacks_counters(report: CompatibilityReport) -> bool:
    """Return whether counters are missing of a BatchNorm that is filled otherwise."""
    owners = (name.removesuffix(COUNTER) for name in report.missing if name.endswith(COUNTER))
    return any(f"{owner}running_mean" in report.matched for owner in owners)


def coverage(target: Architecture, filled: Collection[str]) -> float:
    """Return the fraction of the target's parameters, in elements, that would be initialised; ties count once."""
    if not filled:
        return 0.0 if any(prod(spec.shape) for spec in target.tensors.values() if spec.role != "buffer") else 1.0
    sizes, total = target.parameter_sizes, target.parameter_count
    return sum(sizes[name] for name in sizes.keys() & filled) / total if total else 1.0
