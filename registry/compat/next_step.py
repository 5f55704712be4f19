"""What to do after a report: a sentence, and the call that does it."""

from registry.compat.leftovers import COUNTER
from registry.compat.report import CompatibilityReport

_ENTRIES_SHOWN = 4


def next_step(report: CompatibilityReport) -> str:
    """Return what to do, as a sentence."""
    adapters = _adapters(report)
    steps = [
        (report.loads, "Load it."),
        (
            report.verdict == "incompatible" and report.by_order,
            "The shapes are equal in order under other names. If they are the same network, pair them by order.",
        ),
        ("load_hook" in report.reasons, "Save the weights again with the module's own code, or ask who wrote it."),
        (
            report.verdict == "incompatible",
            "Take another version, or build the module that these weights are for.",
        ),
        ("tied_conflict" in report.reasons, "Decide which of the tensors that are one is right, and drop the others."),
        (report.verdict == "backbone" and not report.reasons, "Load the backbone and train what is missing."),
        ("fill_counters" in report.needs and not report.reasons, "Load it, and say that the counters may stay."),
        (
            bool(adapters) and not report.reasons,
            f"Adapt the tensors that differ ({', '.join(adapters)}), or leave them new by name.",
        ),
    ]
    otherwise = (
        "Build the module as deep and wide as the source is, or name what may stay and what may go in "
        "`load_into(…, allow_missing=, allow_unexpected=)`."
    )
    return next((words for applies, words in steps if applies), otherwise)


def next_code(report: CompatibilityReport) -> str:
    """Return the call that does the next step, with all the arguments that it needs; empty where no call can."""
    module = report.target if report.target.isidentifier() else "module"
    if report.by_order and report.verdict == "incompatible":
        given = {**report.arguments, "prefix": None, "assign": None, "rename": '"by-order"'}
        return f"report = hub.check({_arguments(report.source, module, given)})"
    if set(report.reasons) - {"missing_entries"} or report.verdict == "incompatible":
        return ""
    staying = bool(report.missing or any(each.adapter == "head" for each in report.mismatched))
    if "assign" in report.arguments and staying:
        # What stays would stay without values.
        return ""
    given = dict[str, str | None](report.arguments)
    adapters, named = _adapters(report), _named_missing(report)
    given["adapt"] = repr(adapters) if adapters else None
    given["allow_missing"] = repr(named) if named else None
    call = "load_backbone" if "new_head" in report.needs else "load_into"
    return f"hub.{call}({_arguments(report.source, module, given)})"


def _arguments(source: str, module: str, given: "dict[str, str | None]") -> str:
    return ", ".join([repr(source), module, *(f"{name}={text}" for name, text in given.items() if text is not None)])


def _adapters(report: CompatibilityReport) -> list[str]:
    return [need for need in report.needs if need.startswith(("adapt", "resize"))]


def _named_missing(report: CompatibilityReport) -> list[str]:
    """Return the globs for what may stay though it lies within the trunk: counters and entries."""
    named = [f"*{COUNTER}"] if "fill_counters" in report.needs else []
    if "missing_entries" in report.reasons:
        entries = [name for name in report.missing if name.endswith("_extra_state")]
        named += entries if len(entries) <= _ENTRIES_SHOWN else ["*_extra_state"]
    return named
