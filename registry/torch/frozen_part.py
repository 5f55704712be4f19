"""What is frozen of each module, kept on the module itself, and the hook that keeps frozen BatchNorm in eval.

`train()` puts every module into training, so the hook takes frozen ones out of it again before each forward pass.
It is one function of this file and reads plain attributes: copies, pickles, wrappers and compiled graphs have it too.
It sits on the frozen module, and on all modules above it: `convert_sync_batchnorm` puts new modules, without hooks,
in the place of BatchNorm, and those are known by their name and by which of their parameters train.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import nn
from torch.utils.hooks import RemovableHandle

from registry.errors import InvalidRequestError
from registry.torch.frozen_rows import FrozenRows

_ATTRIBUTE = "_weighbridge_frozen"


@dataclass
class Kept:
    """What is frozen of one module itself, without its children.

    Attributes:
        parameters: that trained before.
        statistics: whether its running statistics are frozen.
        in_eval: whether its forward pass runs in eval.
        trains: of all its parameters whether they train; its replacement is known by it.
        momentum: that its running statistics had.
    """

    parameters: list[str] = field(default_factory=list[str])
    statistics: bool = False
    in_eval: bool = False
    trains: dict[str, bool] = field(default_factory=dict[str, bool])
    momentum: float | None = None


@dataclass
class FrozenPart:
    """The record that a module carries.

    Attributes:
        own: what is frozen of itself.
        children: the same of children that a conversion may replace: BatchNorm and its like, and Dropout.
        below: names of children below which something is kept in eval.
        rows: of own parameters that are frozen in part.
        handle: of the hook.
    """

    own: Kept = field(default_factory=Kept)
    children: dict[str, Kept] = field(default_factory=dict[str, Kept])
    below: list[str] = field(default_factory=list[str])
    rows: dict[str, FrozenRows] = field(default_factory=dict[str, FrozenRows])
    handle: RemovableHandle | None = None

    @property
    def needs_hook(self) -> bool:
        """Whether something has to be done before a forward pass."""
        return bool(self.own.in_eval or self.below or self.rows or any(each.in_eval for each in self.children.values()))


def find_part(module: nn.Module) -> FrozenPart | None:
    """Return what is frozen of a module, None when nothing was."""
    # By `getattr`, because torch.compile follows that.
    return getattr(module, _ATTRIBUTE, None)


def iter_parts(module: nn.Module) -> Iterator[tuple[str, nn.Module, FrozenPart]]:
    """Yield name, module and record of each module that has one; those that were replaced get theirs back first."""
    for name, each in list(cast("Iterable[tuple[str, nn.Module]]", module.named_modules())):
        part = find_part(each)
        if part is None:
            continue
        for child_name, kept in part.children.items():
            child = getattr(each, child_name, None)
            if child is not None and find_part(child) is None and trains(child) == kept.trains:
                store(child, FrozenPart(own=replace(kept)))
        yield name, each, part


def store(module: nn.Module, part: FrozenPart) -> None:
    """Put a record on a module that has none, and the hook where it is needed."""
    if part.needs_hook:
        # Before the hooks of others: spectral norm's reads whether the module is in training.
        part.handle = module.register_forward_pre_hook(keep_frozen, prepend=True)
    module.__dict__[_ATTRIBUTE] = part
    if part.own.in_eval:
        module.training = False


def remove(module: nn.Module, *, leave_note: bool) -> None:
    """Take hook and record off.

    Args:
        module: that may have them.
        leave_note: leave an empty record, by which the hooks above know that it is no replacement.
    """
    part = cast("FrozenPart | None", module.__dict__.pop(_ATTRIBUTE, None))
    if part is None:
        return
    if part.handle is not None:
        part.handle.remove()
    for rows in part.rows.values():
        rows.remove()
    if leave_note and (part.own.statistics or part.own.in_eval):
        module.__dict__[_ATTRIBUTE] = FrozenPart()


def trains(module: nn.Module) -> dict[str, bool]:
    """Return which of a module's own parameters train."""
    return {name: each.requires_grad for name, each in module.named_parameters(recurse=False)}


def keep_frozen(module: nn.Module, _inputs: Any) -> None:
    """Before a forward pass: frozen modules in eval, frozen rows without a gradient. Hooks on modules are this.

    Raises:
        InvalidRequestError: frozen running statistics were reset.
    """
    part = find_part(module)
    if part is None:
        return
    if part.own.in_eval:
        _check_statistics(module, part.own)
        module.training = False
    for name, rows in part.rows.items():
        parameter = cast("nn.Parameter", getattr(module, name))
        if not rows.is_on(parameter):
            rows.hook(parameter)
    _keep_children(module, part)


def _keep_children(module: nn.Module, part: FrozenPart) -> None:
    for name, kept in part.children.items():
        child = getattr(module, name, None)
        if child is None or not kept.in_eval:
            continue
        known = find_part(child)
        if (trains(child) == kept.trains) if known is None else known.own.in_eval:
            child.training = False
    for name in part.below:
        child = getattr(module, name, None)
        if isinstance(child, nn.Module) and (below := find_part(child)) is not None:
            _keep_children(child, below)


def _check_statistics(module: nn.Module, kept: Kept) -> None:
    # `torch.optim.swa_utils.update_bn` resets the statistics, and takes the momentum away while it counts anew.
    if kept.statistics and kept.momentum is not None and getattr(module, "momentum", None) is None:
        raise InvalidRequestError(
            f"The running statistics of a frozen {type(module).__name__} were reset, as `update_bn` does, and while "
            "it is frozen nothing fills them. Load the weights again and leave `update_bn` out, or freeze with "
            'batch_norm="train".'
        )
