"""A comparison in a sentence: how much is shared, and which parts of the network are not."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from registry.architecture import Architecture
from registry.compat.heads import find_head, guess_head
from registry.lineage.differences import Differences
from registry.lineage.documents import Lineage, LineageChange
from registry.sizes import format_share

_STATISTIC = re.compile(r"(?:.*\.)?(?:running_mean|running_var|num_batches_tracked)", re.DOTALL)
_CLAUSES = 5
"""Modules that a sentence names; the answer lists all."""
_MAX_CHANGES = 50


def tell(
    version: str,
    compared_with: str,
    relation: Literal["base", "closest"],
    found: Differences,
    heads: Sequence[str],
) -> Lineage:
    """Return a comparison with an older version, in numbers and as a sentence.

    Args:
        version: a reference.
        compared_with: the older one's.
        relation: how that was found.
        found: what became of its tensors.
        heads: modules of the task.
    """
    changes = list_changes(found, heads)
    lineage = Lineage(
        version=version,
        compared_with=compared_with,
        relation=relation,
        shared_bytes=found.shared_bytes,
        total_bytes=found.new_bytes,
        equal=len(found.pairs["equal"]),
        unknown=len(found.pairs["unknown"]),
        changes=changes[:_MAX_CHANGES],
    )
    return lineage.model_copy(update={"text": _sentence(lineage, changes)})


def find_heads(old: Architecture, new: Architecture, found: Differences, recorded: Sequence[str]) -> list[str]:
    """Return the modules of the task: those that were recorded, else those that a comparison of shapes sees."""
    if recorded:
        return list(recorded)
    reshaped = [(old.tensors[pair.name], new.tensors[pair.name]) for pair in found.pairs["reshaped"]]
    alike = sum(len(found.pairs[change]) for change in ("retyped", "changed", "unknown", "equal"))
    return find_head(old, new, reshaped, alike) or guess_head(new)


def list_changes(found: Differences, heads: Sequence[str]) -> list[LineageChange]:
    """Return what is not the same, by kind and module, the largest first."""
    every = [pair.name for pairs in found.pairs.values() for pair in pairs]
    reshaped = {pair.name for pair in found.pairs["reshaped"]}
    changed = [
        pair.name for change in ("reshaped", "retyped", "changed", "added", "removed") for pair in found.pairs[change]
    ]
    of_head = [name for name in changed if _owner(name, heads) is not None]
    rest = [name for name in changed if _owner(name, heads) is None]
    statistics = [name for name in rest if _STATISTIC.fullmatch(name)]
    changes: list[LineageChange] = []
    if of_head:
        owners = dict.fromkeys(owner for name in of_head if (owner := _owner(name, heads)) is not None)
        total = sum(_owner(name, list(owners)) is not None for name in every)
        changes.append(_change("head", ", ".join(owners), of_head, total, reshaped))
    if statistics:
        total = sum(_STATISTIC.fullmatch(name) is not None and _owner(name, heads) is None for name in every)
        changes.append(_change("statistics", "", statistics, total, reshaped))
    others = [name for name in every if _owner(name, heads) is None and not _STATISTIC.fullmatch(name)]
    moved = [name for name in rest if not _STATISTIC.fullmatch(name)]
    return changes + [_change("module", *each, reshaped) for each in _by_module(others, moved)]


def _change(
    kind: Literal["head", "statistics", "module"], name: str, names: Sequence[str], total: int, reshaped: set[str]
) -> LineageChange:
    is_reshaped = not reshaped.isdisjoint(names)
    return LineageChange(kind=kind, name=name, count=len(names), total=total, reshaped=is_reshaped)


def _owner(name: str, modules: Iterable[str]) -> str | None:
    return next((each for each in modules if name == each or name.startswith(f"{each}.")), None)


def _by_module(every: Sequence[str], changed: Sequence[str]) -> list[tuple[str, list[str], int]]:
    """Return modules with the changed names in each and how many there are, the most changed first."""
    stem = _common_module(every)
    groups: dict[str, list[str]] = {}
    for name in changed:
        groups.setdefault(_below(stem, name), []).append(name)
    sizes = Counter(_below(stem, name) for name in every)
    found: list[tuple[str, list[str], int]] = []
    for module, names in groups.items():
        inside = _common_module(names)
        # A block says more than the stack of blocks that it is of.
        if len(names) < sizes[module] and inside.startswith(f"{module}."):
            found.append((inside, names, sum(name.startswith(f"{inside}.") for name in every)))
        else:
            found.append((module, names, sizes[module]))
    return sorted(found, key=lambda each: -len(each[1]))


def _common_module(names: Sequence[str]) -> str:
    """Return the deepest module that holds all of some tensors; empty for the network itself."""
    if not names:
        return ""
    first, last = min(names).split(".")[:-1], max(names).split(".")[:-1]
    shared: list[str] = []
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        shared.append(one)
    return ".".join(shared)


def _below(stem: str, name: str) -> str:
    """Return the module right below `stem` that holds a tensor; `stem` itself where it does."""
    modules = name.split(".")[:-1]
    depth = stem.count(".") + 1 if stem else 0
    return ".".join(modules[: depth + 1])


def _sentence(lineage: Lineage, changes: Sequence[LineageChange]) -> str:
    if not changes and not lineage.unknown:
        return f"the same tensors as {lineage.compared_with}"
    share = format_share(lineage.shared_bytes, lineage.total_bytes)
    clauses = [f"{share} of bytes shared with {lineage.compared_with}"]
    if not (lineage.equal or lineage.unknown):
        return "; ".join([*clauses, "no tensor is as it was"])
    clauses += [_clause(each) for each in changes[:_CLAUSES]]
    if len(changes) > _CLAUSES:
        clauses.append(f"{len(changes) - _CLAUSES} more modules changed")
    if lineage.unknown:
        clauses.append(f"{lineage.unknown:,} tensors cannot be compared")
    return "; ".join(clauses)


def _clause(change: LineageChange) -> str:
    if change.kind == "statistics":
        return "BatchNorm statistics moved"
    how = "has another shape" if change.reshaped and change.kind == "head" else "changed"
    if change.kind == "head":
        return f"head {how} ({change.name})"
    part = "" if change.count == change.total else f" ({change.count:,} of {change.total:,} tensors)"
    return f"{change.name or 'tensors outside of all modules'} {how}{part}"
