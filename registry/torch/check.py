"""The comparison with a module at hand: names and shapes first, then the module's own code, which has the last word."""

from collections.abc import Sequence
from typing import cast

from torch import nn

from registry.architecture import Architecture
from registry.compat.compare import compare
from registry.compat.judge import judge
from registry.compat.rename_map import Prefix, Rename, rename_metadata
from registry.compat.report import CompatibilityReport, Mismatch, Unexpected
from registry.errors import InvalidRequestError
from registry.module_info import Builder
from registry.torch.architecture import architecture_of
from registry.torch.guesses import iter_guesses
from registry.torch.load_hooks import Trial, find_load_hooks, try_load
from registry.torch.uninitialised import iter_tensors
from registry.torch.unwrap import unwrap_module


def check_module(
    source: Architecture,
    module: nn.Module,
    *,
    prefix: Prefix = "auto",
    rename: Rename | None = None,
    classifier: Sequence[str] = (),
    first_conv: Sequence[str] = (),
) -> CompatibilityReport:
    """Return what loading `source` into `module` would do; the module stays as it is.

    Where the module or a part of it has load hooks or load code of its own, they run on a clone on the meta device.
    Where they make a difference, the report says what torch said and names the code.

    Args:
        source: what was saved.
        module: what shall be filled, on any device.
        prefix: see `compare`.
        rename: see `compare`.
        classifier: the source's recorded head modules.
        first_conv: the target's recorded first convolution modules.

    Raises:
        AmbiguousPrefixError, InvalidRequestError: see `compare`.
        UnsupportedValueError: the module is lazy and has no shapes yet.
    """
    if not isinstance(cast("object", module), nn.Module):
        raise InvalidRequestError(
            f"A check is against an nn.Module or an Architecture, not a {type(module).__name__}. For a state_dict: "
            "`architecture_of_state_dict`."
        )
    report = _check(source, module, prefix, rename, classifier, first_conv)
    if any(tensor.is_meta for _, tensor in iter_tensors(module)):
        report.arguments["assign"] = "True"
    return report


def _check(  # noqa: PLR0917 - those of `check_module`
    source: Architecture,
    module: nn.Module,
    prefix: Prefix,
    rename: Rename | None,
    classifier: Sequence[str],
    first_conv: Sequence[str],
) -> CompatibilityReport:
    target = architecture_of(module)
    report = compare(source, target, prefix=prefix, rename=rename, classifier=classifier, first_conv=first_conv)
    hooks = find_load_hooks(module)
    if not hooks:
        return report
    metadata = None if source.metadata is None else rename_metadata(report.renames, source.metadata)
    trial = try_load(module, source, report.renames.names, metadata)
    if trial is None:
        report.notices.append(f"Not tried: the module's own load code, {', '.join(_named(hooks))}.")
        return report
    if trial.changed is not None:
        changed = architecture_of(trial.changed)
        rebuilt = compare(source, changed, renames=report.renames, classifier=classifier, first_conv=first_conv)
        rebuilt.hooks = _named(hooks)
        rebuilt.notices.append("The module's own load code rebuilds it before it loads; compared with what it becomes.")
        report, target = rebuilt, changed
    return _apply(report, trial, source, target, hooks)


def guess_builders(module: nn.Module) -> list[Builder]:
    """Return what may have made a module of a known library, by its class and attributes; nothing is built."""
    try:
        return list(iter_guesses(unwrap_module(module).module))
    except Exception:  # noqa: BLE001 - a foreign library may raise anything over a guess
        return []


def _apply(
    report: CompatibilityReport, trial: Trial, source: Architecture, target: Architecture, hooks: dict[str, list[str]]
) -> CompatibilityReport:
    """Let torch win where the two differ."""
    if trial.refused is not None:
        report.hooks = _named(hooks)
        report.reasons.append("load_hook")
        report.notices.append(f"The module's own load code raises {trial.refused}")
        judge(report, source, target)
        return report
    names = report.renames.names
    entries = {*target.entries, *(names[each] for each in source.entries)}
    unexpected = {names[each.name]: each for each in report.unexpected}
    expected = ({*report.missing, *report.tied}, set(unexpected), {each.name for each in report.mismatched})
    said = (trial.missing, trial.unexpected, trial.mismatched)
    if all(one - entries == other - entries for one, other in zip(expected, said, strict=True)):
        return report
    differing = set[str]().union(*(one ^ other for one, other in zip(expected, said, strict=True))) - entries
    report.hooks = _named({name: found for name, found in hooks.items() if _concerns(name, differing)} or hooks)
    unfilled = trial.missing | trial.mismatched
    report.matched = {name: have for name, have in report.matched.items() if name not in unfilled}
    report.hooked = [name for name in target.tensors if name not in report.matched and name not in unfilled]
    report.counters = [name for name in report.counters if name not in report.hooked]
    report.tied = [name for name in report.tied if name in trial.missing]
    tied = set(report.tied)
    report.missing = [name for name in (*target.tensors, *target.entries) if name in trial.missing and name not in tied]
    report.unexpected = _unexpected(unexpected, trial.unexpected, names)
    report.mismatched = _mismatched(report, trial.mismatched, source, target)
    report.casts = [each for each in report.casts if each.name in report.matched]
    judge(report, source, target)
    return report


def _unexpected(known: dict[str, Unexpected], said: set[str], names: dict[str, str]) -> list[Unexpected]:
    """Return what torch left over, with the class it had; what only the module's own code made of it is trunk."""
    source_of = {target: source for source, target in names.items()}
    left = [each for name, each in known.items() if name in said]
    return left + [Unexpected(source_of.get(name, name), "trunk") for name in sorted(said - known.keys())]


def _mismatched(
    report: CompatibilityReport, said: set[str], source: Architecture, target: Architecture
) -> list[Mismatch]:
    known = {each.name: each for each in report.mismatched}
    source_of = {to: have for have, to in report.renames.names.items()}
    found: list[Mismatch] = []
    for name in sorted(said):
        have = source_of.get(name, name)
        shape = source.tensors[have].shape if have in source.tensors else ()
        want = target.tensors[name].shape if name in target.tensors else ()
        found.append(known.get(name) or Mismatch(name, have, shape, want))
    return found


def _concerns(module: str, names: set[str]) -> bool:
    dotted = f"{module}." if module else ""
    return any(name.startswith(dotted) for name in names)


def _named(hooks: dict[str, list[str]]) -> list[str]:
    """Return hooks by name, each once, with one module that has it."""
    where: dict[str, list[str]] = {}
    for module, names in hooks.items():
        for name in names:
            where.setdefault(name, []).append(module or "the module itself")
    return [
        f"{name} ({modules[0]}{f' and {len(modules) - 1} more' if len(modules) > 1 else ''})"
        for name, modules in where.items()
    ]
