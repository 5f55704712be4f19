"""What is left over on either side: does it belong to the trunk, or does it hang behind it?"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property

from registry.compat.report import LeftoverClass, Unexpected
from registry.tensor_names import shared_with_any
from registry.tensor_spec import TensorSpec

COUNTER = "num_batches_tracked"
_DIGITS = "0123456789"
_REVERSE = "_reverse"
_AUXILIARY = re.compile(
    r"aux|(?:^|[._])(?:ema|teacher|momentum|criterion|loss(?:es)?|discriminator|pooler)(?:$|[._])", re.IGNORECASE
)
"""What only helps the training, or, as the pooler of BERT's pretraining, nothing but another head needs."""
_BUFFERS = frozenset(
    {"running_mean", "running_var", "n_averaged", "position_ids", "relative_position_index", "attn_mask", "inv_freq"}
)
HEAD_NAME = re.compile(
    r"(?:^|\.)(?:fc|heads?|classifier|classification_head|last_linear|logits|lm_head|score|cls|qa_outputs"
    r"|segmentation_head|decode_head|output_layer|head_dist|linear)(?:$|\.)"
)
"""What task layers are called, for files that lost the order of their modules."""


class Outline:
    """Which modules of a network are used, and in which order they come.

    Args:
        names: of all tensors, in order.
        used: the names that take part.
        ordered: whether that order is the modules' own.
    """

    def __init__(self, names: Sequence[str], used: AbstractSet[str], *, ordered: bool) -> None:
        self._names = names
        self._used = used
        self._ordered = ordered
        self._sorted = sorted(used)
        self._families: dict[str, set[str]] = {}
        self._branches: dict[str, str] = {}

    @cached_property
    def _around(self) -> tuple[list[str], list[str]]:
        """The unused names before the last used one, and those behind it, sorted."""
        names, used = self._names, self._used
        last = next((at for at in range(len(names) - 1, -1, -1) if names[at] in used), None)
        if last is None:
            return [], []
        return sorted(name for name in names[:last] if name not in used), sorted(names[last + 1 :])

    @property
    def is_unused(self) -> bool:
        """Whether nothing takes part at all."""
        return not self._used

    def unused_branch(self, name: str) -> str:
        """Return the highest module above `name`, or `name` itself, of which nothing is used."""
        parent = name.rpartition(".")[0]
        found = self._branches.get(parent)
        if found is None:
            found = self._branches[parent] = self._find_branch(parent) if parent else ""
        return found or name

    def _find_branch(self, module: str) -> str:
        """Return the highest of a module and those above it of which nothing is used; empty where all are used."""
        prefix, above = f"{module}.", module.rpartition(".")[0]
        if self._branches.get(above) == "":
            return "" if _has_below(self._sorted, prefix) else module
        used = len(shared_with_any(prefix, self._sorted))
        if used > len(above):
            self._branches[above] = ""
        return prefix[: prefix.index(".", used)] if used < len(prefix) else ""

    def has_used_sibling(self, branch: str) -> bool:
        """Return whether a used branch differs in its number only: `layer3.22` beside `layer3.5`, `weight_ih_l2`."""
        prefix = branch[: branch.rfind(".") + 1]
        family = _family(branch[len(prefix) :])
        if not family:
            return False
        known = self._families.get(prefix)
        if known is None:
            known = self._families[prefix] = {_family(each) for each in self._iter_used_children(prefix)}
        return family in known

    def _iter_used_children(self, prefix: str) -> Iterator[str]:
        """Yield the names right below a prefix that are used or have something used below them."""
        at = bisect_left(self._sorted, prefix)
        while at < len(self._sorted) and self._sorted[at].startswith(prefix):
            child, dot, _ = self._sorted[at][len(prefix) :].partition(".")
            yield child
            # What stands below it sorts right behind it, up to the character after the dot.
            at = bisect_left(self._sorted, f"{prefix}{child}/", at + 1) if dot else at + 1

    def is_behind(self, branch: str) -> bool:
        """Return whether an unused branch begins after all that is used; by its name where order tells nothing."""
        if not self._ordered:
            return HEAD_NAME.search(branch) is not None
        before, behind = self._around
        return _has(behind, branch) and not _has(before, branch)

    def has_gap(self, names: Iterable[str], roots: tuple[str, ...]) -> bool:
        """Return whether an unused tensor lies within what is used: a gap in the trunk, nothing behind or beside it.

        Args:
            names: of unused tensors.
            roots: the prefixes that everything used has.
        """
        seen: set[str] = set()
        for name in names:
            branch = self.unused_branch(name)
            if branch in seen:
                continue
            seen.add(branch)
            if self.has_used_sibling(branch):
                return True
            if not name.startswith(roots) or is_auxiliary(name):
                continue
            if (branch == name and "." in name) or not self.is_behind(branch):
                return True
        return False


def iter_unexpected(
    names: Iterable[str],
    source: Mapping[str, TensorSpec],
    outline: Outline,
    *,
    head: Sequence[str],
    guessed: bool,
    roots: Sequence[str],
) -> Iterator[Unexpected]:
    """Yield the source tensors that the target has no place for, each with its class.

    Args:
        names: the tensors left over, in source order.
        source: all source tensors.
        outline: of the source.
        head: module names of the source's head.
        guessed: whether nothing said so but their place; then numbered members whose siblings are used are trunk.
        roots: the prefixes that everything used has; what lies outside belongs to another network.
    """
    heads = frozenset(head)
    inside = tuple(roots)
    # Where nothing is used, nothing has a place beside or behind it.
    place_of_all = "trunk" if outline.is_unused else None
    by_parent: dict[str, LeftoverClass] = {}
    for name in names:
        parent, _, leaf = name.rpartition(".")
        place = _classify_kind(leaf, source.get(name), name) or place_of_all or by_parent.get(parent)
        if place is None:
            place = _classify_place(name, outline, heads, inside, guessed=guessed)
            if outline.unused_branch(name) != name:
                by_parent[parent] = place
        yield Unexpected(name, place)


def _has(names: Sequence[str], branch: str) -> bool:
    """Return whether a module, or a tensor, is among sorted names."""
    at = bisect_left(names, branch)
    return (at < len(names) and names[at] == branch) or _has_below(names, f"{branch}.")


def _has_below(names: Sequence[str], prefix: str) -> bool:
    """Return whether any of sorted names begins with a prefix."""
    at = bisect_left(names, prefix)
    return at < len(names) and names[at].startswith(prefix)


def lies_in(name: str, modules: AbstractSet[str]) -> bool:
    """Return whether a tensor hangs somewhere below one of the modules."""
    parent = name.rpartition(".")[0] if modules else ""
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    return bool(parent)


def is_auxiliary(name: str) -> bool:
    """Return whether a module's name says that a trunk works without it."""
    return _AUXILIARY.search(name.rpartition(".")[0]) is not None


def _classify_kind(leaf: str, spec: TensorSpec | None, name: str) -> LeftoverClass | None:
    if leaf == COUNTER:
        return "counter"
    if leaf in _BUFFERS or (spec is not None and spec.role == "buffer"):
        return "buffer"
    return "optimizer" if name.startswith("optimizer.") else None


def _classify_place(
    name: str, outline: Outline, heads: AbstractSet[str], roots: tuple[str, ...], *, guessed: bool
) -> LeftoverClass:
    branch = outline.unused_branch(name)
    in_head = lies_in(name, heads)
    if in_head and not (guessed and name.startswith(roots)):
        return "head"
    if not name.startswith(roots):
        return "auxiliary"
    if outline.has_used_sibling(branch) or (branch == name and "." in name and not in_head):
        return "trunk"
    if is_auxiliary(name):
        return "auxiliary"
    return "head" if in_head or outline.is_behind(branch) else "trunk"


def _family(name: str) -> str:
    """Return a last name with the number at its end left out; empty when it has none."""
    numbered = name.removesuffix(_REVERSE)
    stem = numbered.rstrip(_DIGITS)
    return f"{stem}#{name[len(numbered) :]}" if stem != numbered else ""
