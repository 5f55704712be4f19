"""Why a load is refused, in words: what would stay or be lost, and the argument that allows each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from registry.architecture import Architecture
from registry.compat.leftovers import COUNTER
from registry.compat.name_globs import shorten
from registry.compat.report import Cast, CompatibilityReport, Mismatch, TiedConflict
from registry.errors import StateDictMismatchError

ADAPTERS = ("adapt_first_conv", "resize_position", "resize_vocabulary")
"""What `adapt=` takes."""
_SHOWN = 3
_GLOBS_SHOWN = 6


class Refusal:
    """Collects what a caller did not allow, and says all of it at once.

    Args:
        report: of the two sides.
        target: what shall be filled.
        loaded: target name → source name of what would be loaded; no argument that is offered concerns these.
        backbone: whether the load is one of a backbone; else that is offered where it would do.
    """

    def __init__(
        self, report: CompatibilityReport, target: Architecture, loaded: Mapping[str, str], *, backbone: bool
    ) -> None:
        self._report = report
        self._loaded = loaded
        self._first = next(iter(target.tensors), "nothing")
        self._backbone = backbone
        self._said: list[str] = []
        self._extra: dict[str, Any] = {}

    def missing(self, names: Sequence[str]) -> None:
        """Note target tensors that nothing fills."""
        if not names:
            return
        self._extra["missing"] = list(names)
        counters = all(name.endswith(COUNTER) for name in names)
        where = " inside the trunk" if self._backbone and not counters else ""
        why = " (the source has no counters, and torch itself would raise)" if counters else ""
        offered = not self._backbone and not counters and self._report.verdict == "backbone"
        self._said.append(
            f"{_count(names, 'tensor')}{where} would stay uninitialised{why}: {_some(names)}. If they may stay as "
            f"they are: {self._allow('allow_missing', names)}{' or `load_backbone`' if offered else ''}."
        )

    def mismatched(self, found: Sequence[Mismatch]) -> None:
        """Note pairs of two shapes."""
        heads = [each for each in found if each.adapter == "head"]
        if heads and not self._backbone:
            self._say_mismatched(heads, "For a new head", " or `load_backbone`")
        for adapter in ADAPTERS:
            adaptable = [each for each in found if each.adapter == adapter]
            self._say_mismatched(adaptable, f'To adapt them: adapt=["{adapter}"]. To leave them as they are')
        foreign = [each for each in found if each.adapter is None]
        self._say_mismatched(foreign, "It is another network. To leave them all the same")

    def _say_mismatched(self, found: Sequence[Mismatch], advice: str, offer: str = "") -> None:
        if not found:
            return
        names, first = [each.name for each in found], found[0]
        self._extra.setdefault("mismatched", []).extend(names)
        self._said.append(
            f"{_count(names, 'tensor')} would stay uninitialised for their shape: {_some(names)} ({first.name} is "
            f"{list(first.source_shape)} in the source, {list(first.target_shape)} here). "
            f"{advice}: {self._allow('allow_missing', names)}{offer}."
        )

    def dropped(self, names: Sequence[str], how: str) -> None:
        """Note source tensors that nothing takes; `how` completes "3 tensors …"."""
        if not names:
            return
        self._extra.setdefault("unexpected", []).extend(names)
        self._said.append(
            f"{_count(names, 'tensor')} {how}: {_some(names)}. If they may be left out: "
            f"{self._allow('allow_unexpected', names)}."
        )

    def casts(self, refused: Sequence[Cast]) -> None:
        """Note casts that change the kind of number."""
        if not refused:
            return
        first = refused[0]
        self._extra["casts"] = [each.name for each in refused]
        self._said.append(
            f"{_count(refused, 'tensor')} would become another kind of number: {first.name} from {first.source_dtype} "
            f'to {first.target_dtype}. If you mean it: cast="any".'
        )

    def conflict(self, found: TiedConflict) -> None:
        """Note different values for what is one tensor."""
        self._extra.setdefault("conflicts", []).append(list(found.source_names))
        self._said.append(
            f"{' and '.join(found.target_names)} are one tensor in the target and have different values in the source. "
            f"To keep that of {found.source_names[0]}: {self._allow('allow_unexpected', found.source_names[1:])}."
        )

    def own_code(self) -> None:
        """Note that code of the module itself raised."""
        said = next((each for each in self._report.notices if "own load code raises" in each), "")
        self._said = [said or "The module's own load code refuses what was saved."]

    def nothing_fits(self) -> None:
        """Note that not one tensor would be loaded; names that meet with other shapes were noted already."""
        report = self._report
        if report.mismatched:
            self._said.append("Then nothing at all would be loaded.")
            return
        have = next(iter(report.renames.names), "nothing")
        said = f"No tensor fits: the source has {have!r}, …, the target has {self._first!r}, …."
        by_order = ' The shapes are equal in order; if it is the same network: rename="by-order".'
        self._said = [said + (by_order if report.by_order else " If only a prefix differs: prefix=(strip, add).")]

    def foreign(self) -> None:
        """Note that the trunks are of two networks, where nothing else was found."""
        if not self._said:
            self._said.append("The two have next to nothing in common; no trunk of the source is used.")

    def raise_if_any(self) -> None:
        """Raise when anything was noted.

        Raises:
            StateDictMismatchError: the detail says everything, the `extra` has the names and globs in full.
        """
        if self._said:
            title = f"{self._report.source} was not loaded into {self._report.target}; nothing was changed."
            raise StateDictMismatchError("\n".join([title, *self._said]), **self._extra)

    def _allow(self, argument: str, names: Sequence[str]) -> str:
        """Return the argument that names these tensors and no others; a long one is cut off, and whole in `extra`."""
        chosen = set(names)
        others = self._loaded.keys() if argument == "allow_missing" else self._loaded.values()
        globs = shorten(names, (name for name in others if name not in chosen))
        self._extra.setdefault(argument, []).extend(globs)
        shown = ", ".join(f'"{each}"' for each in globs[:_GLOBS_SHOWN])
        more = len(globs) - _GLOBS_SHOWN
        return f"{argument}=[{shown}{f', … and {more} more, in full in `error.extra`' if more > 0 else ''}]"


def _count(found: Iterable[object], noun: str) -> str:
    count = sum(1 for _ in found)
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
