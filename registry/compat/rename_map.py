"""What a renaming is: where every source tensor goes, and its `_metadata` with it; and maps that users ask for."""

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar, cast

from registry.architecture import Architecture
from registry.errors import AmbiguousPrefixError, InvalidRequestError
from registry.tensor_names import shared_head

Prefix: TypeAlias = Literal["auto", ""] | tuple[str, str]
Rename: TypeAlias = Mapping[str, str] | Callable[[str], str] | Literal["by-order"]
ValueT = TypeVar("ValueT")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Rule:
    """Source names that start with `strip` have it replaced by `add`; both end with a dot or are empty."""

    strip: str
    add: str

    @property
    def moves_number(self) -> bool:
        """Whether it only counts differently: `features.11.` to `features.10.` are other layers, no wrapper."""
        return self.strip != self.add and _NUMBER.sub("#", self.strip) == _NUMBER.sub("#", self.add)

    def apply(self, name: str) -> str | None:
        """Return the renamed name, None when the rule does not concern it."""
        return self.add + name[len(self.strip) :] if name.startswith(self.strip) else None


@dataclass(frozen=True)
class RenameMap:
    """Where every source tensor goes.

    Attributes:
        names: source name → name in the target's terms, for every source tensor, in source order, then every entry.
        rules: the rules that were applied, in the order tried; a name that no rule concerns keeps itself.
    """

    names: dict[str, str]
    rules: tuple[Rule, ...] = ()

    @cached_property
    def is_identity(self) -> bool:
        """Whether every tensor keeps its name."""
        return list(self.names) == list(self.names.values())

    @cached_property
    def changes(self) -> dict[tuple[str, str], int]:
        """What is stripped and what is added, with the number of tensors, the most frequent first."""
        counts: Counter[tuple[str, str]] = Counter()
        for source, target in self.names.items():
            if source != target:
                common = len(_common_tail(source, target))
                counts[source[: len(source) - common], target[: len(target) - common]] += 1
        return dict(counts.most_common())

    def renamed(self, state_dict: Mapping[str, ValueT]) -> "OrderedDict[str, ValueT]":
        """Return a state_dict under the target's names, with its `_metadata` moved too; values are not copied."""
        moved: OrderedDict[str, ValueT] = OrderedDict()
        for name, value in state_dict.items():
            moved[self.names.get(name, name)] = value
        metadata: Mapping[str, Mapping[str, Any]] | None = getattr(state_dict, "_metadata", None)
        if metadata is not None:
            moved._metadata = rename_metadata(self, metadata)  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001 - torch's own place for it
        return moved


def rename_metadata(renames: RenameMap, metadata: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return torch's `_metadata` under the target's module names, also of modules that own no tensor."""
    if renames.is_identity:
        return {name: dict(values) for name, values in metadata.items()}
    modules = _module_map(renames.names)
    moved: dict[str, dict[str, Any]] = {}
    for name, values in metadata.items():
        found = modules.get(name)
        if found is None:
            dotted = f"{name}."
            found = next((to.removesuffix(".") for r in renames.rules if (to := r.apply(dotted)) is not None), name)
        moved[found] = dict(values)
    return moved


def _module_map(names: Mapping[str, str]) -> dict[str, str]:
    """Return where modules go: an owner of tensors with them, one above it where only the prefix differs."""
    modules: dict[str, str] = {}
    for source, target in names.items():
        have, want = source.rpartition(".")[0], target.rpartition(".")[0]
        while have not in modules:
            modules[have] = want
            have, _, one = have.rpartition(".")
            want, _, other = want.rpartition(".")
            if one != other:
                break
    return modules


def request_renames(source: Architecture, target: Architecture, prefix: Prefix, rename: Rename | None) -> RenameMap:
    """Return the map that a user asked for: the prefix first, then the renaming.

    Args:
        source: what was saved.
        target: what shall be filled.
        prefix: `""` keeps names; `(strip, add)` replaces a prefix. `"auto"` with a renaming counts as `""`.
        rename: names, or prefixes that end with a dot, to their new ones; a function of a name; or `"by-order"`,
            which pairs tensors by their place.

    Raises:
        InvalidRequestError: it concerns no tensor, or does not fit the two sides.
        AmbiguousPrefixError: two names fall together.
    """
    rules: tuple[Rule, ...] = ()
    names = {name: name for name in [*source.tensors, *source.entries]}
    if isinstance(prefix, tuple):
        rule = _prefix_rule(names, *prefix)
        rules = (rule,)
        names = {name: rule.apply(name) or name for name in names}
    if rename == "by-order":
        names |= _by_order(source, target)
    elif isinstance(rename, Mapping):
        names = _by_table(names, cast("Mapping[str, str]", rename))
    elif callable(rename):
        names = {name: _checked(rename(renamed), renamed) for name, renamed in names.items()}
    elif rename is not None:
        raise InvalidRequestError(f"`rename` is a dict, a function or 'by-order', not {rename!r}.")
    refuse_collisions(names)
    return RenameMap(names, rules)


def _prefix_rule(names: Mapping[str, str], strip: str, add: str) -> Rule:
    if strip and not strip.endswith(".") and any(name.startswith(f"{strip}.") for name in names):
        strip = f"{strip}."
    if add and not add.endswith("."):
        add = f"{add}."
    if not any(name.startswith(strip) for name in names):
        shown = ", ".join(list(names)[:3])
        raise InvalidRequestError(f"No tensor's name begins with {strip!r}. Names are: {shown}, …")
    return Rule(strip, add)


def _by_table(names: Mapping[str, str], table: Mapping[str, str]) -> dict[str, str]:
    """Apply a dict of names and of prefixes that end with a dot; whole names win, then longer prefixes."""
    prefixes = sorted((each for each in table if each.endswith(".")), key=len, reverse=True)
    used: set[str] = set()
    renamed: dict[str, str] = {}
    for source, name in names.items():
        key = name if name in table else next((each for each in prefixes if name.startswith(each)), None)
        if key is None:
            renamed[source] = name
        else:
            used.add(key)
            renamed[source] = table[key] + (name[len(key) :] if key != name else "")
    unknown = [each for each in table if each not in used]
    if unknown:
        raise InvalidRequestError(
            f"`rename` names {unknown[0]!r}, and no tensor is called or begins so. A prefix ends with a dot."
        )
    return renamed


def _by_order(source: Architecture, target: Architecture) -> dict[str, str]:
    if not same_order(source, target):
        raise InvalidRequestError(
            "`rename='by-order'` pairs tensors by their place, and the shapes of the two sides differ in order."
        )
    return dict(zip(source.tensors, target.tensors, strict=True))


def same_order(source: Architecture, target: Architecture) -> bool:
    """Return whether the shapes are equal in stored order, whatever the names."""
    if len(source.tensors) != len(target.tensors):
        return False
    return all(
        have.shape == want.shape for have, want in zip(source.tensors.values(), target.tensors.values(), strict=True)
    )


def _checked(renamed: object, name: str) -> str:
    if not isinstance(renamed, str):
        raise InvalidRequestError(f"`rename` made {renamed!r} of {name!r}; a function of names returns a name.")
    return renamed


def refuse_collisions(names: Mapping[str, str]) -> None:
    """Refuse a map under which two tensors get one name.

    Raises:
        AmbiguousPrefixError: `extra["candidates"]` lists the two.
    """
    if len(set(names.values())) == len(names):
        return
    sources: dict[str, str] = {}
    for source, target in names.items():
        if target in sources:
            raise AmbiguousPrefixError(
                f"{sources[target]!r} and {source!r} would both become {target!r}. Say which one is meant with "
                "`prefix=(strip, add)` or `rename={...}`.",
                candidates=[sources[target], source],
            )
        sources[target] = source


def _common_tail(one: str, other: str) -> str:
    """Return the common end of two names, cut at a dot."""
    return shared_head(f"{one[::-1]}.", f"{other[::-1]}.")[::-1].removeprefix(".")
