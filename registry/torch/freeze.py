"""Freezing: what is frozen does not move, neither by gradients nor by running statistics; and how that is undone."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn

from registry.errors import InvalidRequestError
from registry.torch.frozen_names import iter_modules, match_names, statistics_of
from registry.torch.frozen_part import iter_parts
from registry.torch.frozen_plan import Mode, Modes, Rows, store_parts, undo
from registry.torch.uninitialised import iter_tensors, uninitialised_names
from registry.torch.unwrap import unwrap_module

_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is frozen in a module, and what is not.

    Attributes:
        parameters: names of those that do not train.
        trainable: names of those that do.
        frozen_elements: how many numbers the former are.
        elements: how many numbers all parameters are.
        in_eval: names of modules that stay in eval.
        uninitialised: names that were to be frozen and train, because no load filled them.
        tied: names that were to be frozen and train, because they are one tensor with something that trains.
        rows: frozen rows of tensors that train otherwise.
    """

    parameters: list[str]
    trainable: list[str]
    frozen_elements: int
    elements: int
    in_eval: list[str]
    uninitialised: list[str] = field(default_factory=list[str])
    tied: list[str] = field(default_factory=list[str])
    rows: dict[str, list[tuple[int, int]]] = field(default_factory=dict[str, list[tuple[int, int]]])

    def __str__(self) -> str:
        count = len(self.parameters) + len(self.trainable)
        share = f"{self.frozen_elements:,} of {self.elements:,} numbers"
        lines = [f"FROZEN: {len(self.parameters)} of {count} parameters, {share}"]
        lines += [f"trains     {_shown(self.trainable)}"] if self.trainable else []
        lines += [f"rows       {name}: {_say_ranges(ranges)} frozen" for name, ranges in self.rows.items()]
        lines += [f"in eval    {_shown(self.in_eval)}"] if self.in_eval else []
        if self.uninitialised:
            lines.append(f"not frozen {_shown(self.uninitialised)}: no load filled them")
        if self.tied:
            lines.append(f"not frozen {_shown(self.tied)}: one tensor with what trains")
        return "\n".join(lines)


def freeze(
    module: nn.Module,
    except_: str | Iterable[str] = (),
    *,
    batch_norm: Mode = "eval",
    dropout: Mode = "train",
    rows: Rows | None = None,
) -> Frozen:
    """Freeze a module's parameters and running statistics; what an earlier call froze and this one excepts, trains.

    Parameters get `requires_grad=False` and lose their `.grad`: with a stale one, an optimizer would still move them.
    Frozen BatchNorm stays in eval, whatever `train()` says. What no load filled is never frozen.

    Args:
        module: also in `torch.compile` or AveragedModel; freeze before DistributedDataParallel.
        except_: globs over names of parameters, buffers and modules that train (`layer4.*`, `fc`, `*.bias`).
        batch_norm: `train` lets frozen BatchNorm go on normalising by the batch, and counting.
        dropout: `eval` turns Dropout off in the modules whose parameters are all frozen.
        rows: of tensors that train otherwise, the frozen rows as half-open ranges; only their gradient is kept from
            them, so their weight decay has to be 0 (`prepare_finetune` sees to it).

    Raises:
        InvalidRequestError: a glob matches nothing, rows do not exist, or the module is in DistributedDataParallel.
    """
    inner = open_module(module)
    excepted = match_names("except_", except_, inner)
    chosen = {name for name, _ in (*iter_tensors(inner), *iter_modules(inner))} - excepted
    return freeze_names(inner, chosen, Modes(batch_norm, dropout), rows or {})


def unfreeze(module: nn.Module, only: str | Iterable[str] | None = None) -> Frozen:
    """Let train what `freeze` froze, and take its hooks off; what did not train before `freeze` stays as it is.

    Args:
        module: that was frozen, or a part of it.
        only: globs over names of parameters, buffers and modules to unfreeze (`layer4.*`); all by default.

    Raises:
        InvalidRequestError: a glob matches nothing, or the module is in DistributedDataParallel.
    """
    inner = open_module(module)
    named = None if only is None else match_names("only", only, inner)
    before = frozen_names(inner)
    modes = modes_of(inner)
    kept_rows = {name: ranges for name, ranges in rows_of(inner).items() if named is not None and name not in named}
    undo(inner)
    return freeze_names(inner, set() if named is None else before - named, modes, kept_rows)


def open_module(module: nn.Module) -> nn.Module:
    """Return a module without its wrappers.

    Raises:
        InvalidRequestError: it is none, or one that cannot be frozen any more.
    """
    if not isinstance(cast("object", module), nn.Module):
        raise InvalidRequestError(f"Only an nn.Module can be frozen, not a {type(module).__name__}.")
    found = unwrap_module(module)
    if "DistributedDataParallel" in found.wrappers:
        raise InvalidRequestError(
            "DistributedDataParallel has already planned for which parameters it exchanges gradients. Freeze and "
            "unfreeze the module first, then wrap it."
        )
    if any(isinstance(each, torch.jit.ScriptModule) for each in found.module.modules()):
        raise InvalidRequestError("A TorchScript module keeps no hooks. Freeze the module before it is scripted.")
    return found.module


def freeze_names(module: nn.Module, chosen: Collection[str], modes: Modes, rows: Rows) -> Frozen:
    """Freeze exactly the tensors and modules of these names, as far as they are initialised.

    Raises:
        InvalidRequestError: rows do not exist.
    """
    ranges = check_rows(module, rows)
    new = uninitialised_names(module)
    closed = {name for name in chosen if name not in new and name not in ranges}
    parameters = list(module.named_parameters(remove_duplicate=False))
    open_tensors = {id(each) for name, each in parameters if name not in closed}
    undo(module)
    freed: dict[int, list[str]] = {}
    for name, parameter in parameters:
        if id(parameter) in open_tensors:
            continue
        if parameter.requires_grad:
            freed.setdefault(id(parameter), []).append(name)
            parameter.requires_grad = False
        parameter.grad = None
    store_parts(module, {name for names in freed.values() for name in names}, closed, modes, ranges)
    return _describe(module, set(chosen) & new, {name for name in closed if name not in new}, ranges)


def frozen_names(module: nn.Module) -> set[str]:
    """Return the names of parameters and running statistics that are frozen, and of modules that are kept in eval."""
    found: set[str] = set()
    for prefix, each, part in iter_parts(module):
        dotted = f"{prefix}." if prefix else ""
        found |= {dotted + name for name in part.own.parameters}
        if part.own.statistics:
            found |= {dotted + name for name in statistics_of(each)}
        if part.own.in_eval:
            found.add(prefix)
    by_tensor = {id(each) for name, each in iter_tensors(module) if name in found}
    return found | {name for name, each in iter_tensors(module) if id(each) in by_tensor}


def modes_of(module: nn.Module) -> Modes:
    """Return what the module's frozen BatchNorm and Dropout do, read off what is frozen."""
    kept = [part.own for _, _, part in iter_parts(module)]
    counting = [each for each in kept if each.statistics]
    batch_norm: Mode = "train" if counting and not any(each.in_eval for each in counting) else "eval"
    dropout: Mode = "eval" if any(each.in_eval and not each.statistics for each in kept) else "train"
    return Modes(batch_norm, dropout)


def rows_of(module: nn.Module) -> dict[str, list[tuple[int, int]]]:
    """Return the frozen rows of tensors by name."""
    return {
        f"{prefix}.{name}" if prefix else name: rows.ranges
        for prefix, _, part in iter_parts(module)
        for name, rows in part.rows.items()
    }


def check_rows(module: nn.Module, rows: Rows) -> dict[str, list[tuple[int, int]]]:
    """Return rows as they are kept.

    Raises:
        InvalidRequestError: there are no such tensors or rows, or they do not train anyway.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    checked: dict[str, list[tuple[int, int]]] = {}
    for name, ranges in rows.items():
        parameter = parameters.get(name)
        if parameter is None:
            match_names("rows", [name], module)
            raise InvalidRequestError(f"rows: {name!r} is no parameter; name the tensor, as in 'embed.weight'.")
        if not parameter.requires_grad and name not in frozen_names(module):
            raise InvalidRequestError(f"rows: {name!r} does not train at all; call `requires_grad_()` on it first.")
        size = parameter.shape[0] if parameter.dim() else 0
        checked[name] = [(int(start), int(stop)) for start, stop in ranges]
        for start, stop in checked[name]:
            if not 0 <= start < stop <= size:
                raise InvalidRequestError(f"rows: {name!r} has {size} rows; {(start, stop)} is no range of them.")
    return checked


def _describe(module: nn.Module, new: set[str], closed: set[str], rows: dict[str, list[tuple[int, int]]]) -> Frozen:
    parameters = dict(module.named_parameters())
    frozen = [name for name, each in parameters.items() if not each.requires_grad]
    tied = [name for name, each in module.named_parameters(remove_duplicate=False) if each.requires_grad]
    return Frozen(
        parameters=frozen,
        trainable=[name for name, each in parameters.items() if each.requires_grad],
        frozen_elements=sum(parameters[name].numel() for name in frozen),
        elements=sum(each.numel() for each in parameters.values()),
        in_eval=[name for name, _, part in iter_parts(module) if part.own.in_eval],
        uninitialised=[name for name in parameters if name in new],
        tied=[name for name in tied if name in closed],
        rows=rows,
    )


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _say_ranges(ranges: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{start}:{stop}" for start, stop in ranges)
