"""Which names of a module can be frozen, and which of them a caller's globs mean."""

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator
from typing import cast

from torch import nn
from torch.nn.utils import parametrizations

from registry.errors import InvalidRequestError
from registry.torch.uninitialised import iter_tensors

_NEAR = 3


def match_names(argument: str, globs: str | Iterable[str], module: nn.Module) -> set[str]:
    """Return the names of tensors and modules that globs mean; a module means all that is below it.

    Args:
        argument: what the caller knows the globs as.
        globs: patterns as of `fnmatch`, over names of parameters, buffers and modules (`layer4.*`, `*.bias`, `fc`).
        module: whose names they are.

    Raises:
        InvalidRequestError: one matches nothing.
    """
    modules = {name for name, _ in iter_modules(module) if name}
    names = modules | {name for name, _ in iter_tensors(module)}
    found: set[str] = set()
    for each in [globs] if isinstance(globs, str) else globs:
        matches = re.compile(fnmatch.translate(each)).match
        met = {name for name in names if matches(name)}
        if not met:
            raise InvalidRequestError(_say_no_match(argument, each, names, module))
        below = met & modules
        found |= met
        found |= {name for name in names if any(parent in below for parent in _parents(name))} if below else set()
    return found


def iter_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield modules under every name that they have."""
    yield from cast("Iterable[tuple[str, nn.Module]]", module.named_modules(remove_duplicate=False))


def statistics_of(module: nn.Module) -> list[str]:
    """Return the names of own buffers that a forward pass in training changes.

    They are BatchNorm's and InstanceNorm's running statistics, and the vectors of both spectral norms of torch.
    """
    buffers = {name for name, each in module.named_buffers(recurse=False) if each.numel()}
    found = [name for name in buffers if name.startswith("running_")]
    if isinstance(module, parametrizations._SpectralNorm):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the class has no public name
        found += buffers & {"_u", "_v"}
    # `torch.nn.utils.spectral_norm` puts `weight_u` beside `weight_orig`.
    found += [name for name in buffers if name.endswith("_u") and hasattr(module, f"{name[:-2]}_orig")]
    return sorted(found)


def has_dropout(module: nn.Module) -> bool:
    """Return whether a module drops values in training, by itself or by a child or number that it calls so.

    Attention and recurrent layers have a number or child (`dropout`, `attn_drop`) and drop by themselves.
    """
    kind = type(module).__name__.lower()
    if "drop" in kind or kind == "stochasticdepth":
        return True
    numbers = (name for name, each in vars(module).items() if isinstance(each, float))
    children = (name for name, _ in module.named_children())
    return any("drop" in name.lower() for name in (*numbers, *children))


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _say_no_match(argument: str, pattern: str, names: Collection[str], module: nn.Module) -> str:
    near = difflib.get_close_matches(pattern.rstrip(".*"), names, n=_NEAR, cutoff=0.5)
    shown = near or [name for name, _ in module.named_children()]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Its modules are: {', '.join(shown[:10])}."
    return f"{argument}={pattern!r} matches no parameter, buffer or module of {type(module).__name__}. {hint}"
