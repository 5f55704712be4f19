"""Everything that a load can change of a module, kept so that a failed one leaves no trace."""

import copy
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONTAINERS = (dict, list, set)


@dataclass(slots=True)
class _Kept:
    """A tensor with what it held: `alias` is its memory, `values` a copy of that."""

    tensor: torch.Tensor
    alias: torch.Tensor
    values: torch.Tensor
    requires_grad: bool


class Undo:
    """Puts a module back as it was: its submodules, parameters and buffers by identity, its attributes, its values.

    Args:
        module: as it shall be again.
        values: keep a copy of every parameter and buffer; it costs as much memory as the module, on its devices.
        attributes: keep a copy of what is inside of plain attributes too (tensors, dicts, lists), for code of the
            module that may change those.
    """

    def __init__(self, module: nn.Module, *, values: bool, attributes: bool = False) -> None:
        self._holds_values = values
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._contents: list[tuple[Any, Any]] = []
        self._kept: dict[int, _Kept] = {}
        for part in cast("Iterable[nn.Module]", module.modules()):
            members = vars(part)
            self._attributes.append((members, dict(members)))
            for name, value in members.items():
                if isinstance(value, _CONTAINERS):
                    container: Any = cast("Any", value)
                    self._contents.append((container, _copied(name, container, deep=attributes)))
                elif attributes and isinstance(value, torch.Tensor):
                    self._keep(value)
            if values:
                for tensor in (*part.parameters(recurse=False), *part.buffers(recurse=False)):
                    self._keep(tensor)

    @property
    def holds_values(self) -> bool:
        """Whether values come back too, and not only what they are kept in."""
        return self._holds_values

    def restore(self) -> None:
        """Put everything back."""
        for container, contents in self._contents:
            container.clear()
            fill = cast("Any", container).extend if isinstance(container, list) else container.update
            fill(contents)
        for attributes, kept in self._attributes:
            attributes.clear()
            attributes.update(kept)
        with torch.no_grad():
            for each in self._kept.values():
                _put_back(each)

    def _keep(self, tensor: torch.Tensor) -> None:
        if id(tensor) not in self._kept and not tensor.is_meta:
            # Where elements share memory, `clone` would make a tensor of another size of memory; equal values are back.
            alias = tensor.detach()
            self._kept[id(tensor)] = _Kept(tensor, alias, alias.clone(), tensor.requires_grad)


def _put_back(kept: _Kept) -> None:
    kept.alias.copy_(kept.values)
    if kept.tensor.data_ptr() != kept.alias.data_ptr() or kept.tensor.shape != kept.alias.shape:
        kept.tensor.data = kept.alias
    if kept.tensor.requires_grad != kept.requires_grad:
        with suppress(RuntimeError):
            kept.tensor.requires_grad_(kept.requires_grad)


def _copied(name: str, value: Any, *, deep: bool) -> Any:
    """Return what a container holds; of a module's own ones (no torch-internal), also what is inside, where it can."""
    if deep and not name.startswith("_"):
        with suppress(Exception):
            return copy.deepcopy(value, _modules_and_tensors(value))
    return copy.copy(value)


def _modules_and_tensors(value: Any) -> dict[int, Any]:
    """Return a memo under which `deepcopy` keeps modules and tensors directly inside as they are."""
    inside: Iterable[Any] = cast("dict[Any, Any]", value).values() if isinstance(value, dict) else value
    return {id(each): each for each in inside if isinstance(each, nn.Module | torch.Tensor)}
