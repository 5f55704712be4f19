"""A report in words, for a terminal: what fits, what does not, what to do, in at most 25 lines."""

from collections import Counter
from collections.abc import Sequence

from registry.compat.next_step import next_code, next_step
from registry.compat.report import CompatibilityReport, Mismatch, Need
from registry.formats.display import escape_name

_SHOWN = 4
_MISMATCHES_SHOWN = 3
_VERDICTS = {
    "exact": "all of {source} fills all of {target}",
    "superset": "{source} fills all of {target}; what is left over is no trunk",
    "backbone": "the trunk of {source} is used whole; the rest of {target} stays as it is",
    "partial": "something fits, but a trunk is cut off or stays unfilled",
    "incompatible": "{source} does not load into {target}",
}
_REASONS = {
    "truncated_trunk": "layers of the source's trunk have no place in the target: it is a shallower network",
    "unfilled_trunk": "layers inside the target's trunk would stay as they are: it is a deeper network",
    "other_trunk": "tensors inside the trunk have other names or shapes",
    "refused_cast": "a dtype would change its kind of number; convert it yourself if you mean it",
    "tied_conflict": "tensors that are one in the target have different values in the source",
    "missing_entries": "extra state that the target wants is not in the source",
    "load_hook": "the module's own code refuses what was saved",
}
_NEEDS: dict[Need, str] = {
    "rename": "names are translated as above",
    "cast": "values are converted",
    "drop_extra": "what is left over is dropped",
    "new_head": "the head stays new; train it",
    "adapt_first_conv": "the first convolution has other input channels",
    "resize_position": "position embeddings or patches have another size",
    "resize_vocabulary": "the vocabulary has another size",
    "fill_counters": "BatchNorm's counters stay as they are (torch itself would raise)",
}
_ADAPTERS = {
    "head": "another head",
    "adapt_first_conv": "first convolution",
    "resize_position": "position or patch size",
    "resize_vocabulary": "vocabulary",
}


def describe(report: CompatibilityReport) -> str:
    """Return the report as lines of text."""
    lines = [_headline(report)]
    lines += line("renamed", _changes(report))
    lines += line("head", _head(report))
    lines += line("missing", some_names(report.missing))
    lines += _mismatches(report.mismatched)
    lines += line("left over", _leftovers(report))
    lines += line("casts", _casts(report))
    lines += line("tied", some_names(report.tied))
    lines += line("conflicts", "; ".join(" = ".join(each.target_names) for each in report.conflicts[:_SHOWN]))
    lines += line("by torch", _by_torch(report))
    lines += line("own code", some_names(report.hooks))
    lines += [each for reason in report.reasons for each in line("because", _REASONS.get(reason, reason))]
    lines += [each for need in report.needs for each in line("needs", f"{need}: {_NEEDS[need]}")]
    lines += line("next", next_step(report))
    code = next_code(report)
    lines += [f"{'':<11}{code}"] if code else []
    return "\n".join([*lines, *report.notices])


def _headline(report: CompatibilityReport) -> str:
    said = _VERDICTS[report.verdict].format(source=report.source, target=report.target)
    total = len(report.matched) + len(report.missing) + len(report.mismatched) + len(report.tied) + len(report.counters)
    total += len(report.hooked)
    fit = len(report.matched) + len(report.tied) + len(report.hooked)
    return (
        f"{report.verdict.upper()}: {said}\n"
        f"{'fits':<11}{fit:,} of {total:,} tensors, {_percent(report.coverage)} of the parameters"
    )


def _percent(fraction: float) -> str:
    # Nothing but all of it may read as 100 %.
    return "100 %" if fraction == 1 else f"{min(fraction * 100, 99.9):.1f} %"


def line(title: str, text: str) -> list[str]:
    """Return a line with its title in front; none without a text. Names in it cannot drive a terminal."""
    return [f"{title:<11}{escape_name(text)}"] if text else []


def some_names(names: Sequence[str]) -> str:
    """Return how many names there are, and the first of them."""
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{len(names):,}: {', '.join(names[:_SHOWN])}{more}"


def _changes(report: CompatibilityReport) -> str:
    changes = [
        f"{strip!r} → {add!r} ({count:,} tensors)"
        for (strip, add), count in list(report.renames.changes.items())[:_SHOWN]
    ]
    more = len(report.renames.changes) - _SHOWN
    return "; ".join(changes) + (f" and {more:,} more" if more > 0 else "")


def _head(report: CompatibilityReport) -> str:
    return ", ".join(report.head) + (" (guessed: the last layer)" if report.head_guessed else "") if report.head else ""


def _mismatches(mismatched: Sequence[Mismatch]) -> list[str]:
    lines: list[str] = []
    for at, each in enumerate(mismatched[:_MISMATCHES_SHOWN]):
        why = _ADAPTERS[each.adapter] if each.adapter else "another network"
        shapes = f"source {list(each.source_shape)}, target {list(each.target_shape)}"
        lines += line("mismatched" if at == 0 else "", f"{each.name}: {shapes}: {why}")
    if len(mismatched) > _MISMATCHES_SHOWN:
        lines.append(f"{'':<11}and {len(mismatched) - _MISMATCHES_SHOWN:,} more")
    return lines


def _leftovers(report: CompatibilityReport) -> str:
    counts = Counter(each.leftover for each in report.unexpected)
    if not counts:
        return ""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    return f"{kinds}: {some_names([each.name for each in report.unexpected]).partition(': ')[2]}"


def _casts(report: CompatibilityReport) -> str:
    counts = Counter((each.source_dtype, each.target_dtype, each.effect) for each in report.casts)
    kinds = [f"{count:,} {have} → {want} ({effect})" for (have, want, effect), count in counts.most_common(_SHOWN)]
    return ", ".join(kinds)


def _by_torch(report: CompatibilityReport) -> str:
    said: list[str] = []
    if report.counters:
        said.append(f"{len(report.counters):,} counters of BatchNorm stay as they are")
    if report.dropped:
        said.append(f"{len(report.dropped):,} counters are dropped by FrozenBatchNorm")
    if report.hooked:
        said.append(f"{len(report.hooked):,} tensors are filled by the module's own code")
    return "; ".join(said)
