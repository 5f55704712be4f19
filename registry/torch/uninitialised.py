"""Which tensors of a module no load has filled yet; kept on the module, so that it survives copying and pickling.

Each module that owns tensors remembers its own, under a plain attribute of plain values. So what is known moves with a
submodule, and a module that was put in later (another head) is known to be new.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import cast

import torch
from torch import nn

_ATTRIBUTE = "_weighbridge_unfilled"
_OWN = ""
"""The key of a module's own tensors; its BatchNorm children, which conversions replace, stand beside it."""


def mark_uninitialised(module: nn.Module, names: Collection[str]) -> None:
    """Note after a load which tensors it left as they were; it filled all others of the module.

    A name that an earlier load filled stays initialised. A tensor with several names is filled when one of them is.

    Args:
        module: what was loaded into, or the submodule that was.
        names: names of its state_dict, entries (`_extra_state`) too.
    """
    left = set(names)
    if _is_marked(module):
        left &= uninitialised_names(module)
    filled = {id(tensor) for name, tensor in iter_tensors(module) if name not in left}
    left -= {name for name, tensor in iter_tensors(module) if id(tensor) in filled}
    modules = _named_modules(module)
    own: dict[str, list[str]] = {prefix: [] for prefix in modules}
    for name in sorted(left):
        parent, _, local = name.rpartition(".")
        if parent in own:
            own[parent].append(local)
        else:
            own[_OWN].append(name)
    for prefix, part in modules.items():
        dotted = f"{prefix}." if prefix else ""
        norms = [name for name, child in part.named_children() if _is_norm(child)]
        part.__dict__[_ATTRIBUTE] = {_OWN: own[prefix], **{name: own[dotted + name] for name in norms}}


def uninitialised_names(module: nn.Module) -> set[str]:
    """Return the names of parameters, buffers and entries that no load has filled.

    Empty for a module that Weighbridge never loaded into: nothing is known of it. In one that it did, what was put in
    since is uninitialised; SyncBatchNorm made of BatchNorm is as its BatchNorm was.
    """
    found: set[str] = set()
    if not _is_marked(module):
        return found
    modules = _named_modules(module)
    for prefix, part in modules.items():
        own = _mark_of(part)
        unfilled = None if own is None else own.get(_OWN, [])
        parent = modules.get(prefix.rpartition(".")[0])
        if unfilled is None and parent is not None and isinstance(part, nn.SyncBatchNorm):
            unfilled = (_mark_of(parent) or {}).get(prefix.rpartition(".")[2])
        dotted = f"{prefix}." if prefix else ""
        found.update(dotted + name for name in (_own_names(part) if unfilled is None else unfilled))
    filled = {id(tensor) for name, tensor in iter_tensors(module) if name not in found}
    return found - {name for name, tensor in iter_tensors(module) if id(tensor) in filled}


def forget(module: nn.Module) -> None:
    """Take a module and what is below it for new: whatever was loaded into it is gone."""
    for part in module.modules():
        part.__dict__.pop(_ATTRIBUTE, None)


def iter_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and buffers under every name that they have."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _named_modules(module: nn.Module) -> dict[str, nn.Module]:
    return dict(cast("Iterable[tuple[str, nn.Module]]", module.named_modules(remove_duplicate=False)))


def _is_marked(module: nn.Module) -> bool:
    return any(_mark_of(part) is not None for part in module.modules())


def _mark_of(module: nn.Module) -> dict[str, list[str]] | None:
    return module.__dict__.get(_ATTRIBUTE)


def _is_norm(module: nn.Module) -> bool:
    # What `convert_sync_batchnorm` asks; the class has no public name.
    return isinstance(module, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _own_names(module: nn.Module) -> list[str]:
    return [
        *(name for name, _ in module.named_parameters(recurse=False, remove_duplicate=False)),
        *(name for name, _ in module.named_buffers(recurse=False, remove_duplicate=False)),
    ]
