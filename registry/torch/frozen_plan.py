"""Working out what is frozen of each module, and writing it onto the modules; and taking it off again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from registry.errors import InvalidRequestError
from registry.torch.frozen_names import has_dropout, iter_modules, statistics_of
from registry.torch.frozen_part import FrozenPart, Kept, iter_parts, remove, store, trains
from registry.torch.frozen_rows import FrozenRows

Mode = Literal["eval", "train"]
Rows = Mapping[str, Sequence[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Modes:
    """What frozen BatchNorm and Dropout do in training."""

    batch_norm: Mode = "eval"
    dropout: Mode = "train"

    def __post_init__(self) -> None:
        for name, value in (("batch_norm", self.batch_norm), ("dropout", self.dropout)):
            if value not in {"eval", "train"}:
                raise InvalidRequestError(f"{name}={value!r} is not known; it is 'eval' or 'train'.")


def undo(module: nn.Module) -> None:
    """Restore what `freeze` changed, in the module and all below it."""
    for _, each, part in list(iter_parts(module)):
        for name in part.own.parameters:
            # A parametrised or pruned weight may have left since.
            parameter = dict(each.named_parameters(recurse=False)).get(name)
            if parameter is not None:
                parameter.requires_grad_()
        if part.own.in_eval:
            each.training = module.training
        remove(each, leave_note=each is module)


def store_parts(module: nn.Module, freed: set[str], closed: set[str], modes: Modes, rows: Rows) -> None:
    """Put on each module the record of what is frozen of it."""
    whole = _wholly_frozen(module) if modes.dropout == "eval" else set[int]()
    names = {id(each): name for name, each in reversed(list(iter_modules(module)))}
    parts: dict[int, FrozenPart] = {}
    for each in module.modules():
        prefix = names[id(each)]
        dotted = f"{prefix}." if prefix else ""
        statistics = statistics_of(each)
        counting = bool(statistics) and all(dotted + name in closed for name in statistics)
        dropping = id(each) in whole and prefix in closed and has_dropout(each)
        own = Kept(
            parameters=[name for name, _ in each.named_parameters(recurse=False) if dotted + name in freed],
            statistics=counting,
            in_eval=(counting and modes.batch_norm == "eval") or dropping,
            trains=trains(each),
            momentum=getattr(each, "momentum", None) if counting else None,
        )
        parts[id(each)] = FrozenPart(own=own)
    _link(module, parts)
    for each in module.modules():
        part = parts[id(each)]
        prefix = names[id(each)]
        for name, parameter in each.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if full in rows:
                part.rows[name] = FrozenRows(parameter, rows[full])
        if part != FrozenPart(own=Kept(trains=part.own.trains)):
            store(each, part)


def _link(module: nn.Module, parts: dict[int, FrozenPart]) -> None:
    """Tell each module which of its children are kept in eval, and below which some are."""
    known: dict[int, bool] = {}

    def link(each: nn.Module) -> bool:
        if id(each) not in known:
            known[id(each)] = False
            part = parts[id(each)]
            for name, child in each.named_children():
                own = parts[id(child)].own
                if own.statistics or own.in_eval:
                    part.children[name] = own
                if link(child):
                    part.below.append(name)
            known[id(each)] = bool(part.below) or any(own.in_eval for own in part.children.values())
        return known[id(each)]

    link(module)


def _wholly_frozen(module: nn.Module) -> set[int]:
    """Return the ids of modules in the largest parts that have parameters of which none trains."""
    found: set[int] = set()

    def visit(part: nn.Module) -> None:
        states = [each.requires_grad for each in part.parameters()]
        if states and not any(states):
            found.update(id(each) for each in part.modules())
        else:
            for child in part.children():
                visit(child)

    visit(module)
    return found
