"""What a comparison found, in torch's words (`missing_keys`), transformers' (`mismatched_keys`) and ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

from registry.compat.casts import CastClass
from registry.compat.rename_map import RenameMap

if TYPE_CHECKING:
    from collections import OrderedDict

ValueT = TypeVar("ValueT")
Verdict: TypeAlias = Literal["exact", "superset", "backbone", "partial", "incompatible"]
"""Coverage only:

- `exact`: all of the source fills all of the target.
- `superset`: the target is complete; what is left over is no trunk.
- `backbone`: the source's trunk is used whole; what the target still lacks lies outside of it.
- `partial`: something fits, and either the source's trunk is cut off or the target's stays unfilled inside.
- `incompatible`: the trunks do not fit each other.
"""
Need: TypeAlias = Literal[
    "rename",
    "cast",
    "drop_extra",
    "new_head",
    "adapt_first_conv",
    "resize_position",
    "resize_vocabulary",
    "fill_counters",
]
LeftoverClass: TypeAlias = Literal["head", "auxiliary", "buffer", "counter", "optimizer", "trunk"]
Adapter: TypeAlias = Literal["head", "adapt_first_conv", "resize_position", "resize_vocabulary"]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One target tensor whose partner has another shape; `adapter` names what could make it fit."""

    name: str
    source_name: str
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    adapter: Adapter | None = None


class Unexpected(NamedTuple):
    """One source tensor that the target has no place for, under its source name: a tuple, since there may be many."""

    name: str
    leftover: LeftoverClass


@dataclass(frozen=True, slots=True)
class Cast:
    """One matched tensor whose dtype differs."""

    name: str
    source_dtype: str
    target_dtype: str
    effect: CastClass


@dataclass(frozen=True, slots=True)
class TiedConflict:
    """A storage of the target that several different source tensors would fill; torch keeps the last in silence."""

    target_names: tuple[str, ...]
    source_names: tuple[str, ...]


@dataclass(slots=True)
class CompatibilityReport:
    """What would happen if the source were loaded into the target.

    Attributes:
        verdict: coverage in one word.
        needs: what has to be done, or allowed, for the load.
        reasons: stable words for what stands in the way: `truncated_trunk`, `unfilled_trunk`, `other_trunk`,
            `refused_cast`, `tied_conflict`, `missing_entries` (`_extra_state`), `load_hook`.
        missing: target names that nothing fills, entries too, tied ones left out.
        tied: target names that nothing fills by name, whose storage another name fills.
        unexpected: source names without a place.
        mismatched: pairs of one name and two shapes.
        casts: matched pairs of two dtypes.
        conflicts: tied storages that would be filled twice, differently.
        counters: `num_batches_tracked` names that torch itself would fill (BatchNorm without version).
        dropped: source names that torch drops without a word (counters into a FrozenBatchNorm).
        hooked: target names that code of the module itself fills.
        hooks: that code, by name, where it makes a difference.
        matched: target name → source name of what would be copied.
        tied_to: each of `tied` → the source name that fills its storage.
        renames: where every source name goes.
        head: source modules that are its head; `head_guessed` when nothing said so but their place.
        coverage: fraction of the target's parameters (elements) that would be initialised, 0 to 1.
        score: 0 to 1, orders reports of one target: coverage, less what of the source is left over.
        source, target: what was compared, in words; for the code of the next step.
        arguments: what the check was told beside the two, as Python writes it; a load needs the same.
        by_order: whether the ordered shapes are equal under other names, so that `rename="by-order"` is possible.
        notices: sentences that always belong beside the verdict.
    """

    verdict: Verdict
    needs: list[Need]
    reasons: list[str]
    missing: list[str]
    tied: list[str]
    unexpected: list[Unexpected]
    mismatched: list[Mismatch]
    casts: list[Cast]
    conflicts: list[TiedConflict]
    counters: list[str]
    matched: dict[str, str]
    renames: RenameMap
    head: list[str]
    head_guessed: bool
    coverage: float
    score: float
    dropped: list[str] = field(default_factory=list[str])
    tied_to: dict[str, str] = field(default_factory=dict[str, str])
    hooked: list[str] = field(default_factory=list[str])
    hooks: list[str] = field(default_factory=list[str])
    arguments: dict[str, str] = field(default_factory=dict[str, str])
    by_order: bool = False
    source: str = "REF"
    target: str = "module"
    notices: list[str] = field(default_factory=list[str])

    @property
    def loads(self) -> bool:
        """Whether the load initialises every tensor of the target, drops no trunk and needs no decision."""
        return self.verdict in {"exact", "superset"} and not self.reasons and "fill_counters" not in self.needs

    def renamed(self, state_dict: Mapping[str, ValueT]) -> "OrderedDict[str, ValueT]":
        """Return the source under the target's names, tied ones and `_metadata` too; values are not copied.

        What `exact` says needs nothing else loads strictly from it: `module.load_state_dict(report.renamed(source))`.
        """
        renamed = self.renames.renamed(state_dict)
        for name, source in self.tied_to.items():
            if source in state_dict:
                renamed[name] = state_dict[source]
        return renamed

    def fitting(self, state_dict: Mapping[str, ValueT]) -> "OrderedDict[str, ValueT]":
        """Return of `renamed` only what fits: the tensors that the report counts as matched or tied.

        With `strict=False` torch then fills exactly what the report says, and leaves exactly what it calls missing.
        """
        renamed = self.renamed(state_dict)
        for name in [name for name in renamed if name not in self.matched and name not in self.tied_to]:
            del renamed[name]
        return renamed

    def __str__(self) -> str:
        from registry.compat.words import describe

        return describe(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "verdict": self.verdict,
            "loads": self.loads,
            "needs": self.needs,
            "reasons": self.reasons,
            "coverage": self.coverage,
            "score": self.score,
            "missing": self.missing,
            "tied": self.tied,
            "unexpected": [{"name": each.name, "class": each.leftover} for each in self.unexpected],
            "mismatched": [
                {
                    "name": each.name,
                    "source_name": each.source_name,
                    "source_shape": list(each.source_shape),
                    "target_shape": list(each.target_shape),
                    "adapter": each.adapter,
                }
                for each in self.mismatched
            ],
            "casts": [
                {"name": each.name, "from": each.source_dtype, "to": each.target_dtype, "effect": each.effect}
                for each in self.casts
            ],
            "conflicts": [
                {"targets": list(each.target_names), "sources": list(each.source_names)} for each in self.conflicts
            ],
            "counters": self.counters,
            "dropped": self.dropped,
            "hooked": self.hooked,
            "hooks": self.hooks,
            "renames": [
                {"strip": strip, "add": add, "tensors": count} for (strip, add), count in self.renames.changes.items()
            ],
            "head": self.head,
            "head_guessed": self.head_guessed,
            "by_order": self.by_order,
            "notices": self.notices,
            "text": str(self),
        }
