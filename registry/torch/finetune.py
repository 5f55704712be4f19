"""Preparing a module for fine-tuning: a new head, the loaded trunk, what is frozen, and groups for the optimizer."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from registry.errors import InvalidRequestError
from registry.module_info import Recipe
from registry.torch.freeze import Frozen, check_rows, freeze_names, open_module
from registry.torch.frozen_names import iter_modules, match_names
from registry.torch.frozen_plan import Modes, Rows
from registry.torch.heads import find_heads, note_classes, replace_heads
from registry.torch.recipe import find_recipe, remember, short_globs
from registry.torch.undo import Undo
from registry.torch.uninitialised import forget, iter_tensors, uninitialised_names

Rates = float | Mapping[str, float] | None
LoadedT = TypeVar("LoadedT")
_GROUPS = ("backbone", "head")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller says about the fine-tuning; see `Client.prepare_finetune`.

    Attributes:
        head: names of modules; None finds them.
        num_classes: of the new head; None keeps the present one.
        lr: of all, or by group.
        weight_decay: of all groups but those of partly frozen tensors.
        freeze: everything but the head, or globs.
        rows: frozen rows of tensors.
        modes: of frozen BatchNorm and Dropout.
    """

    head: str | Sequence[str] | None = None
    num_classes: int | None = None
    lr: Rates = None
    weight_decay: float | None = None
    freeze: bool | str | Iterable[str] = False
    rows: Rows = field(default_factory=dict[str, Sequence[tuple[int, int]]])
    modes: Modes = field(default_factory=Modes)

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            InvalidRequestError: the detail names the argument.
        """
        if isinstance(self.lr, Mapping):
            unknown = sorted(set(self.lr) - set(_GROUPS))
            if unknown or not self.lr:
                raise InvalidRequestError(f"lr={dict(self.lr)!r}: the groups are 'backbone' and 'head'.")
            missing = [each for each in _GROUPS if each not in self.lr]
            if missing and not self.freeze:
                raise InvalidRequestError(f"lr={dict(self.lr)!r} says nothing of the {missing[0]!r}, which trains too.")
        if self.num_classes is not None and self.num_classes < 1:
            raise InvalidRequestError(f"num_classes={self.num_classes!r} is no number of classes.")

    def rate_of(self, group: str) -> float | None:
        """Return a group's learning rate, None where the optimizer's own shall hold."""
        return self.lr.get(group) if isinstance(self.lr, Mapping) else self.lr


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was prepared of a module.

    Attributes:
        param_groups: for `torch.optim`.
        frozen: what does not train.
        recipe: how to do it again.
    """

    param_groups: list[dict[str, Any]]
    frozen: Frozen
    recipe: Recipe


def prepare(
    module: nn.Module,
    load: Callable[[Sequence[str]], LoadedT],
    wishes: Wishes,
    *,
    base: str | None = None,
    recorded: Sequence[str] = (),
) -> tuple[Prepared, LoadedT]:
    """Replace the head, load, freeze, and group what trains; after a failure the module is as it was.

    Args:
        module: changed in place.
        load: fills the module or raises and leaves it alone; it is given the names of the head's new layers.
        wishes: what the caller says.
        base: the reference of what is loaded, for the recipe.
        recorded: names of head modules that something else than the caller gave.

    Raises:
        InvalidRequestError: there is no such head, a glob matches nothing, or rows do not exist.
        UnsupportedValueError: the head's class cannot be made with another number of classes.
        WeighbridgeError: `load` raised it.
    """
    wishes.check()
    inner = open_module(module)
    heads = find_heads(inner, wishes.head, recorded)
    if wishes.num_classes is not None and not heads:
        raise InvalidRequestError(
            f"No head was found in {type(inner).__name__}. Say head= with the name of the layer that puts out classes."
        )
    undo = Undo(inner, values=False)
    try:
        new = replace_heads(inner, heads, wishes.num_classes) if wishes.num_classes is not None else []
        heads = new or heads
        chosen = _choose(inner, heads, wishes.freeze)
        check_rows(inner, wishes.rows)
        fresh = {name: each.detach().clone() for name, each in iter_tensors(inner) if _is_below(name, new)}
        loaded = load(new)
    except BaseException:
        undo.restore()
        raise
    _renew(inner, new, fresh)
    if wishes.num_classes is not None:
        note_classes(inner, wishes.num_classes)
    frozen = freeze_names(inner, chosen, wishes.modes, wishes.rows)
    unfilled = uninitialised_names(inner)
    groups = group_parameters(inner, heads, unfilled, wishes)
    return Prepared(groups, frozen, _note_recipe(inner, base, heads, unfilled)), loaded


def group_parameters(
    module: nn.Module, heads: Sequence[str], unfilled: Iterable[str], wishes: Wishes
) -> list[dict[str, Any]]:
    """Return groups for `torch.optim`: every parameter that trains is in one of them, once.

    What no load filled is in the group of the head. Partly frozen tensors have a group without weight decay, which
    would move their frozen rows.
    """
    aliases: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    new = set(unfilled)
    members: dict[tuple[str, bool], list[nn.Parameter]] = {
        (each, rows): [] for each in _GROUPS for rows in (False, True)
    }
    for parameter in module.parameters():
        names = aliases[id(parameter)]
        is_head = any(_is_below(name, heads) or name in new for name in names)
        if parameter.requires_grad:
            members[_GROUPS[is_head], any(name in wishes.rows for name in names)].append(parameter)
    groups: list[dict[str, Any]] = []
    for (name, rows), parameters in members.items():
        if not parameters:
            continue
        group: dict[str, Any] = {"name": f"{name}.rows" if rows else name, "params": parameters}
        rate = wishes.rate_of(name)
        decay = 0.0 if rows else wishes.weight_decay
        group |= {} if rate is None else {"lr": rate}
        group |= {} if decay is None else {"weight_decay": decay}
        groups.append(group)
    return groups


def _choose(module: nn.Module, heads: Sequence[str], freeze: bool | str | Iterable[str]) -> set[str]:  # noqa: FBT001 - the argument's own type
    if isinstance(freeze, bool):
        names = {name for name, _ in (*iter_tensors(module), *iter_modules(module))} if freeze else set[str]()
        return {name for name in names if not _is_below(name, heads)}
    return match_names("freeze", freeze, module)


def _renew(module: nn.Module, new: Sequence[str], fresh: Mapping[str, torch.Tensor]) -> None:
    """Make new layers new again where the source had a head of the same size."""
    for name, tensor in iter_tensors(module):
        if name in fresh and not fresh[name].is_meta:
            with torch.no_grad():
                tensor.copy_(fresh[name])
    for name in new:
        forget(module.get_submodule(name))


def _note_recipe(module: nn.Module, base: str | None, heads: Sequence[str], unfilled: Collection[str]) -> Recipe:
    """Note on the module what its recipe needs, and return it: without what would make it too long."""
    filled = [name for name, _ in iter_tensors(module) if name not in unfilled]
    beside = [name for name in sorted(unfilled) if not _is_below(name, heads)]
    new = list(heads)
    with suppress(InvalidRequestError):
        new += [each.removesuffix(".*") for each in short_globs(beside, filled)]
    remember(module, base, new)
    with suppress(InvalidRequestError):
        return find_recipe(module) or Recipe(base=base, head=new)
    return Recipe(base=base, head=new)


def _is_below(name: str, modules: Sequence[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in modules)
