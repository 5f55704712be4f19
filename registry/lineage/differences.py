"""Two state_dicts tensor by tensor: what came, went, changed, and what stayed the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, get_args

from registry.lineage.contents import TensorContent, iter_distinct

Change: TypeAlias = Literal["added", "removed", "reshaped", "retyped", "changed", "unknown", "equal"]
"""What became of a tensor. Each has one:

- `added`, `removed`: the other side has no tensor of that name.
- `reshaped`: another shape, whatever else.
- `retyped`: the same shape in another dtype, layout or quantisation.
- `changed`: other values.
- `unknown`: the digests do not tell (compressed files, views that cover a part of their storage).
- `equal`: the same values, bit by bit.
"""
CHANGES: tuple[Change, ...] = get_args(Change)


class Pair(NamedTuple):
    """A tensor as it was and as it is; None where it was not, or is not, there."""

    name: str
    old: TensorContent | None
    new: TensorContent | None

    @property
    def size_bytes(self) -> int:
        """Of the values as they are; of removed ones as they were."""
        one = self.new or self.old
        return 0 if one is None else one.size_bytes


@dataclass(slots=True)
class Differences:
    """All tensors of two state_dicts by what became of them, in the order of the new one.

    Attributes:
        old_bytes, new_bytes: of the values, tied ones once.
        shared_bytes: how many of `new_bytes` the old one holds too, under whatever names.
    """

    pairs: dict[Change, list[Pair]] = field(default_factory=lambda: {each: list[Pair]() for each in CHANGES})
    old_bytes: int = 0
    new_bytes: int = 0
    shared_bytes: int = 0

    @property
    def share(self) -> float:
        """The fraction of the new bytes that is shared, 0 to 1; of no bytes, all."""
        return self.shared_bytes / self.new_bytes if self.new_bytes else 1.0


def compare_contents(old: Mapping[str, TensorContent], new: Mapping[str, TensorContent]) -> Differences:
    """Return what became of each tensor."""
    found = Differences(old_bytes=_bytes(old.values()), new_bytes=_bytes(new.values()))
    known = {each.identity for each in old.values()} - {None}
    found.shared_bytes = _bytes(each for each in new.values() if each.identity in known)
    for name, content in new.items():
        before = old.get(name)
        found.pairs["added" if before is None else judge(before, content)].append(Pair(name, before, content))
    found.pairs["removed"] = [Pair(name, content, None) for name, content in old.items() if name not in new]
    return found


def judge(old: TensorContent, new: TensorContent) -> Change:
    """Return what became of a tensor that both sides have."""
    if old.shape != new.shape:
        return "reshaped"
    if (old.dtype, old.form) != (new.dtype, new.form):
        return "retyped"
    if old.identity is None or new.identity is None:
        return "unknown"
    if old.identity == new.identity:
        return "equal"
    told = old.arrangement == new.arrangement and old.is_exact and new.is_exact
    return "changed" if told else "unknown"


def _bytes(contents: Iterable[TensorContent]) -> int:
    return sum(each.size_bytes for each in iter_distinct(contents))
