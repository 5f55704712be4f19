"""Names of tensors: what torch's wrappers insert into them, and which of them begin or end alike."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

ValueT = TypeVar("ValueT")

WRAPPER_PARTS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"})
"""Name parts that torch's own wrappers insert: torch.compile, FSDP, activation checkpointing, DataParallel."""
MAX_TWINS = 16


def unwrap(named: Mapping[str, ValueT]) -> Mapping[str, ValueT]:
    """Return values by their names without wrapper parts, or as they are where two would fall together."""
    text = "\n".join(["", *named])
    if not any(f"{part}." in text for part in WRAPPER_PARTS):
        return named
    lines = _without_wrappers(text).split("\n")[1:]
    if len(lines) != len(named):
        # A name of two lines.
        return named
    bare = dict(zip(lines, named.values(), strict=True))
    return bare if len(bare) == len(named) else named


def unwrap_name(name: str) -> str:
    """Return a name without wrapper parts."""
    return _without_wrappers(f"\n{name}")[1:]


def _without_wrappers(lines: str) -> str:
    """Return names, a line each and the first line empty, without the parts that wrappers insert."""
    before = ""
    while before != lines:
        before = lines
        for part in WRAPPER_PARTS:
            lines = lines.replace(f"\n{part}.", "\n").replace(f".{part}.", ".")
    return lines


def shared_head(one: str, other: str) -> str:
    """Return the common start of two dotted names, up to and with its last dot."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one[: one.rfind(".", 0, low) + 1]


class Endings:
    """Which of some names end like another one. Names are often asked for again: by each relative of a network.

    Args:
        names: distinct ones.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._backwards = sorted([f".{name}"[::-1] for name in names])
        self._known: dict[str, tuple[str, Sequence[str]]] = {}

    def find_twins(self, name: str) -> tuple[str, Sequence[str]]:
        """Return the longest tail, cut at a dot, that a name shares with any, and who has it: at most `MAX_TWINS`.

        The tail begins with a dot, which stands before a whole name too.
        """
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._find(f".{name}"[::-1])
        return known

    def _find(self, key: str) -> tuple[str, Sequence[str]]:
        backwards = self._backwards
        at = bisect_left(backwards, key)
        # Of sorted texts, one of the two neighbours has most in common.
        head = max((shared_head(key, each) for each in backwards[max(at - 1, 0) : at + 1]), key=len, default="")
        start = bisect_left(backwards, head) if head else len(backwards)
        twins = [each[-2::-1] for each in backwards[start : start + MAX_TWINS] if each.startswith(head)]
        return head[::-1], twins
