"""What a load will do, tensor by tensor, and whether the caller allowed everything that it leaves or drops."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, TypeAlias

from registry.architecture import Architecture
from registry.compat.judge import find_gaps
from registry.compat.leftovers import COUNTER, HEAD_NAME
from registry.compat.name_globs import NameGlobs
from registry.compat.refusal import ADAPTERS, Refusal
from registry.compat.report import CompatibilityReport, Mismatch
from registry.compat.rules import EXTRA_STATE
from registry.errors import InvalidRequestError

DropHead: TypeAlias = Literal["auto"] | bool
CastRule: TypeAlias = Literal["safe", "any"]

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class LoadWishes:
    """What a caller allows a load to do.

    Attributes:
        allow_missing: globs over target names that may stay as they are.
        allow_unexpected: globs over source names that may be left out.
        drop_head: `"auto"` leaves a tensor of the source's head out where the target lacks it or has another shape;
            `True` leaves the head out in any case; `False` wants every tensor of it used.
        cast: `"any"` allows casts that change the kind of number.
        adapt: what may be done to tensors of another shape.
        backbone: whether what lies outside of the matched trunk may stay.
    """

    allow_missing: tuple[str, ...] = ()
    allow_unexpected: tuple[str, ...] = ()
    drop_head: DropHead = "auto"
    cast: CastRule = "safe"
    adapt: tuple[str, ...] = ()
    backbone: bool = False

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InvalidRequestError: the detail names the argument.
        """
        if self.cast not in {"safe", "any"}:
            raise InvalidRequestError(f"cast={self.cast!r} is not known; it is 'safe' or 'any'.")
        if self.drop_head not in {"auto", True, False}:
            raise InvalidRequestError(f"drop_head={self.drop_head!r} is not known; it is 'auto', True or False.")
        unknown = [each for each in self.adapt if each not in ADAPTERS]
        if unknown:
            raise InvalidRequestError(f"adapt={unknown[0]!r} is not known; there are {', '.join(ADAPTERS)}.")


@dataclass(slots=True)
class LoadPlan:
    """Where every tensor and entry of the target comes from.

    Attributes:
        report: what was compared.
        loaded: target name → source name of what is filled, tied names and adapted tensors too.
        adapted: the mismatched pairs that shall be made to fit, by target name.
        missing: target names that stay, in the target's order.
        dropped: source names that are left out.
        head: source modules of the head, where that is no mere guess.
    """

    report: CompatibilityReport
    loaded: dict[str, str]
    adapted: dict[str, Mismatch] = field(default_factory=dict[str, Mismatch])
    missing: list[str] = field(default_factory=list[str])
    dropped: list[str] = field(default_factory=list[str])
    head: list[str] = field(default_factory=list[str])


def make_plan(report: CompatibilityReport, source: Architecture, target: Architecture, wishes: LoadWishes) -> LoadPlan:
    """Return what to load; nothing that the caller did not allow is left or dropped.

    Args:
        report: of `source` against `target`.
        source: what was saved.
        target: what shall be filled.
        wishes: what the caller allows.

    Raises:
        StateDictMismatchError: the load would initialise nothing or less than asked, or drop what it should not;
            the detail names the arguments that allow it, the `extra` lists the names.
        InvalidRequestError: a wish means nothing, or a glob matches no name.
    """
    wishes.check()
    planner = _Planner(report, source, target, wishes)
    planner.leave_out_head()
    planner.adapt()
    planner.resolve_conflicts()
    planner.fill_ties()
    planner.judge()
    return planner.plan


class _Planner:
    """Sorts names into loaded, left and gone, and finds what was not allowed."""

    def __init__(
        self, report: CompatibilityReport, source: Architecture, target: Architecture, wishes: LoadWishes
    ) -> None:
        names = report.renames.names
        known = {*target.tensors, *target.entries, *report.matched, *report.missing, *report.hooked}
        self._may_stay = NameGlobs("allow_missing", wishes.allow_missing, known, "target")
        self._may_go = NameGlobs("allow_unexpected", wishes.allow_unexpected, names.keys(), "source")
        loaded = dict(report.matched)
        loaded.update((name, report.tied_to[name]) for name in report.tied if name in report.tied_to)
        loaded.update((names[each], each) for each in source.entries if names[each] in target.entries)
        head = [each for each in report.head if not report.head_guessed or HEAD_NAME.search(each)]
        self.plan = LoadPlan(report, loaded, head=head)
        self._report, self._source, self._target, self._wishes = report, source, target, wishes
        self._left = dict.fromkeys([*report.missing, *(each.name for each in report.mismatched)])
        self._gone = dict.fromkeys([*(each.name for each in report.unexpected), *report.dropped])
        self._head_left: set[str] = set()
        self._refusal = Refusal(report, target, loaded, backbone=wishes.backbone)

    def leave_out_head(self) -> None:
        """With `drop_head=True`, load no tensor of the source's head."""
        if self._wishes.drop_head is not True:
            return
        if self._report.head and not self.plan.head:
            raise InvalidRequestError(
                f"drop_head=True, and the head of {self._report.source} is a mere guess "
                f'({", ".join(self._report.head)}). Say which modules it is: classifier=["{self._report.head[0]}"].'
            )
        heads = tuple(f"{module}." for module in self.plan.head)
        for name, source in list(self.plan.loaded.items()) if heads else ():
            if source.startswith(heads):
                del self.plan.loaded[name]
                self._head_left.add(name)
                self._left[name] = None
                self._gone[source] = None

    def adapt(self) -> None:
        """Take the mismatched tensors in whose adapter was asked for."""
        for each in self._report.mismatched:
            if each.adapter is not None and each.adapter in self._wishes.adapt:
                self.plan.adapted[each.name] = each
                self.plan.loaded[each.name] = each.source_name
                del self._left[each.name]
            else:
                self._gone[each.source_name] = None

    def resolve_conflicts(self) -> None:
        """Of tensors that are one in the target, take the one that the caller did not give up."""
        loaded = self.plan.loaded
        for conflict in self._report.conflicts:
            taken = {name: loaded[name] for name in conflict.target_names if name in loaded}
            kept = [source for source in taken.values() if source not in self._may_go] or list(taken.values())
            if len({self._source.tensors[source].tie or source for source in kept}) > 1:
                self._refusal.conflict(conflict)
                continue
            for name, source in taken.items():
                if source not in kept:
                    self._gone[source] = None
                    loaded[name] = kept[0]

    def fill_ties(self) -> None:
        """Count what shares its storage with something filled as filled by that."""
        filled: dict[str, str] = {}
        for name in self.plan.loaded:
            tie = self._tie(name)
            if tie is not None:
                filled.setdefault(tie, name)
        for name in list(self._left) if filled else ():
            other = filled.get(self._tie(name) or "")
            if other is not None:
                self.plan.loaded[name] = self.plan.loaded[other]
                if other in self.plan.adapted:
                    self.plan.adapted[name] = self.plan.adapted[other]
                del self._left[name]

    def _tie(self, name: str) -> str | None:
        spec = self._target.tensors.get(name)
        return spec.tie if spec is not None else None

    def judge(self) -> None:
        """Raise where something stays or goes that was not allowed.

        Raises:
            StateDictMismatchError: see `make_plan`.
        """
        self.plan.missing = self._in_order(self._left)
        used = set(self.plan.loaded.values())
        self.plan.dropped = [name for name in self._gone if name not in used]
        self._judge_missing()
        self._judge_dropped()
        # Extra state is handed over as it is.
        refused = (each for each in self._report.casts if each.effect == "refused" and each.name in self.plan.loaded)
        casts = [each for each in refused if not each.name.endswith(EXTRA_STATE)]
        self._refusal.casts(casts if self._wishes.cast == "safe" else [])
        named = self._wishes.allow_missing or self._wishes.allow_unexpected
        if self._wishes.backbone and "other_trunk" in self._report.reasons and not named:
            self._refusal.foreign()
        if not self.plan.loaded and not self._report.hooked:
            self._refusal.nothing_fits()
        if "load_hook" in self._report.reasons:
            self._refusal.own_code()
        self._refusal.raise_if_any()
        owners = {name.rpartition(".")[0] for name in self.plan.loaded}
        # torch fills such counters with what they are; where nothing else of their module is loaded, they stay too.
        counters = (name for name in self._report.counters if name.rpartition(".")[0] not in owners)
        self.plan.missing = self._in_order([*self._left, *counters])

    def _in_order(self, names: Iterable[str]) -> list[str]:
        chosen = dict.fromkeys(names)
        order = chain(self._target.tensors, self._target.entries, chosen)
        return [name for name in dict.fromkeys(order) if name in chosen]

    def _judge_missing(self) -> None:
        unnamed = [name for name in self.plan.missing if name not in self._may_stay]
        pairs = {each.name: each for each in self._report.mismatched}
        self._refusal.mismatched([pairs[name] for name in unnamed if name in pairs])
        lacking = [name for name in unnamed if name not in pairs]
        if self._wishes.backbone:
            inside = self._within_trunk([name for name in lacking if name not in self._head_left])
            lacking = [name for name in lacking if name in inside]
        self._refusal.missing(lacking)

    def _within_trunk(self, names: list[str]) -> set[str]:
        """Return what lies within what is filled, or belongs to it (counters, entries): no backbone may lack it."""
        gaps = set(find_gaps(self._report, self._target, [name for name in names if not name.endswith(COUNTER)]))
        owners = {name.rpartition(".")[0] for name in self.plan.loaded}
        known = self._target.tensors
        gaps -= {name for name in gaps if name not in known}
        gaps.update(
            name
            for name in names
            if name.rpartition(".")[0] in owners and (name.endswith(COUNTER) or name not in known)
        )
        return gaps

    def _judge_dropped(self) -> None:
        classes = {each.name: each.leftover for each in self._report.unexpected}
        lost = [
            name
            for name in self.plan.dropped
            if name not in self._may_go and (classes.get(name) == "trunk" or self._loses_statistics(name))
        ]
        self._refusal.dropped(lost, "of the source's trunk have no place")
        if self._wishes.drop_head is False:
            classes |= {each.source_name: "head" for each in self._report.mismatched if each.adapter == "head"}
            heads = [name for name in self.plan.dropped if classes.get(name) == "head" and name not in self._may_go]
            self._refusal.dropped(heads, "of the source's head have no place, and drop_head=False wants them used")

    def _loses_statistics(self, name: str) -> bool:
        """Return whether it is what a BatchNorm counted whose weights are used: the target normalises otherwise."""
        owner = name.rpartition(".")[0]
        weight = f"{owner}.weight" if owner else "weight"
        return name.endswith(_STATISTICS) and weight in self.plan.loaded.values()
