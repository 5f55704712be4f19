"""Names of tensors: what torch's wrappers insert into them, and which of them begin or end alike."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol, TypeVar

ValueT = TypeVar("ValueT")

WRAPPER_PARTS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"})
"""Name parts that torch's own wrappers insert: torch.compile, FSDP, activation checkpointing, DataParallel."""
MAX_TWINS = 16
_TRIED = 6
"""Most names share so few parts; what others share is found by halving, since a name may have thousands."""
_SEARCHED = 200
"""The first so many names are searched for one by one: two comparisons ask for no more, and a table of all tails, which
is faster for each, costs more than that to make."""
_TAIL_PARTS = 12
"""Tails of so many parts are looked up; longer ones, which hardly any network has, are found among sorted names."""


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
    end = 0
    for _ in range(_TRIED):
        after = one.find(".", end) + 1
        if not after or not other.startswith(one[end:after], end):
            return one[:end]
        end = after
    low, high = end, min(one.rfind(".") + 1, len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one[: one.rfind(".", 0, low) + 1]


def shared_with_any(one: str, others: Sequence[str]) -> str:
    """Return the longest `shared_head` of a dotted name and any of others, which are sorted."""
    at = bisect_left(others, one)
    # Of sorted names, one of the two neighbours has most in common.
    before = shared_head(one, others[at - 1]) if at else ""
    behind = shared_head(one, others[at]) if at < len(others) else ""
    return max(before, behind, key=len)


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


class Endings:
    """Which of some tensors' names end like another one. Names are often asked for again: by relatives of a network.

    Args:
        tensors: by name.
    """

    def __init__(self, tensors: Mapping[str, _Shaped]) -> None:
        self._tensors = tensors
        self._found: dict[str, tuple[str, Mapping[tuple[int, ...], Sequence[str]]]] = {}
        self._twins: dict[str, dict[tuple[int, ...], list[str]]] = {}

    def find_twins(self, name: str, shape: tuple[int, ...]) -> tuple[str, Sequence[str]]:
        """Return what of a name stands before the longest tail that it shares with any, and what others have there.

        Tails are cut at dots. Of the names with that tail, `MAX_TWINS` are looked at, and those of the shape returned.
        """
        found = self._found.get(name)
        if found is None:
            tail = self._shared_tail(f".{name}")
            twins = self._twins.get(tail)
            if twins is None:
                twins = self._twins[tail] = self._list_twins(tail[::-1])
            found = self._found[name] = name[: len(name) + 1 - len(tail)], twins
        return found[0], found[1].get(shape, ())

    def _shared_tail(self, dotted: str) -> str:
        """Return the longest tail that a name, a dot before it, has in common with any."""
        if len(self._found) < _SEARCHED:
            return shared_with_any(dotted[::-1], self._backwards)[::-1]
        start = len(dotted)
        for _ in range(_TAIL_PARTS):
            at = dotted.rfind(".", 0, start)
            if dotted[at:] not in self._tails:
                return dotted[start:]
            if not at:
                return dotted
            start = at
        return shared_with_any(dotted[::-1], self._backwards)[::-1]

    @cached_property
    def _tails(self) -> set[str]:
        """What the names end with, each tail with the dot before it; those of many parts left out."""
        found: set[str] = set()
        for name in self._tensors:
            dotted = f".{name}"
            start = len(dotted)
            for _ in range(_TAIL_PARTS):
                start = dotted.rfind(".", 0, start)
                found.add(dotted[start:])
                if not start:
                    break
        return found

    @cached_property
    def _backwards(self) -> list[str]:
        return sorted([f".{name}"[::-1] for name in self._tensors])

    def _list_twins(self, head: str) -> dict[tuple[int, ...], list[str]]:
        """Return what stands before a tail, which is written backwards, by shape."""
        found: dict[tuple[int, ...], list[str]] = {}
        start = bisect_left(self._backwards, head)
        for each in self._backwards[start : start + MAX_TWINS] if head else ():
            if not each.startswith(head):
                break
            name = each[-2::-1]
            found.setdefault(self._tensors[name].shape, []).append(name[: len(name) + 1 - len(head)])
        return found
