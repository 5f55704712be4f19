"""What a pickle may refer to: exact pairs of module and name, never modules or prefixes."""

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from functools import lru_cache
from typing import Literal, TypeAlias

from registry.formats.inert_names import (
    CODE_PAIRS,
    COMPILER_CONTEXT,
    DATA_PAIRS,
    NUMPY_PAIRS,
    OTHER_STANDARD_MODULES,
    TENSOR_PAIRS,
)

Standing: TypeAlias = Literal["tensors", "numpy", "data", "code", "compiler", "getattr", "unsafe"]
"""What a mention of a class or function makes of a file:

- `tensors`: nothing; tensors, plain values and what torch itself needs to rebuild them.
- `numpy`: nothing, as long as no array holds objects.
- `data`: code, but of the standard library's data classes only.
- `code`: code, somebody's classes and functions.
- `compiler`: code, inside a module that torch compiled; elsewhere code as well.
- `getattr`: unsafe, but for one use inside a module that torch compiled.
- `unsafe`: it would do harm, or nobody can say what it does.
"""

_STANDARD_MODULES = sys.stdlib_module_names | OTHER_STANDARD_MODULES
_FRAMEWORKS = frozenset({"torch", "numpy"})
GETATTR_PAIRS = frozenset({("builtins", "getattr"), ("__builtin__", "getattr")})
_WORST_FIRST: tuple[Standing, ...] = ("unsafe", "getattr", "code", "compiler", "data", "numpy", "tensors")


@lru_cache(maxsize=4096)
def standing(module: str, name: str) -> Standing:
    """Return what a mention of `module.name` makes of a file.

    Python 2 names count as what Python 3's unpickler maps them to, when that is worse.
    """
    mapped_module, mapped_name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    candidates = {_standing_of(module, name), _standing_of(mapped_module, mapped_name)}
    return next(each for each in _WORST_FIRST if each in candidates)


def is_dangerous(module: str, name: str) -> bool:
    """Return whether a file that mentions `module.name` would do harm."""
    return standing(module, name) in {"unsafe", "getattr"}


def is_framework(name: str) -> bool:
    """Return whether a dotted name belongs to `torch.nn` or `torch.optim`: code, but everybody's."""
    return name.startswith(("torch.nn.", "torch.optim."))


def _standing_of(module: str, name: str) -> Standing:
    pair = (module, name)
    for pairs, found in _LISTS:
        if pair in pairs:
            return found
    top = module.partition(".")[0]
    if top in _STANDARD_MODULES or not _is_importable(module) or not _is_importable(name):
        return "unsafe"
    if "." in name and (top in _FRAMEWORKS or not _is_nested_class(name)):
        return "unsafe"
    if top in _FRAMEWORKS and not name.lstrip("_")[:1].isupper():
        return "unsafe"
    return "code"


def _is_nested_class(name: str) -> bool:
    """Return whether a dotted name is written as classes in classes are (`Net.Block`), see docs/decisions/0005.

    The walk that does harm goes through a module that another one imported (`os.system`): such names are lower-case.
    """
    parts = name.split(".")
    return all(part.lstrip("_")[:1].isupper() and part not in _STANDARD_MODULES for part in parts)


def _is_importable(dotted: str) -> bool:
    """Return whether it looks like a name that somebody gave to a module, class or function."""
    return all(part and part.replace("-", "_").isidentifier() for part in dotted.split("."))


_LISTS: tuple[tuple[frozenset[tuple[str, str]], Standing], ...] = (
    (TENSOR_PAIRS, "tensors"),
    (NUMPY_PAIRS, "numpy"),
    (DATA_PAIRS, "data"),
    (CODE_PAIRS, "code"),
    (COMPILER_CONTEXT, "compiler"),
    (GETATTR_PAIRS, "getattr"),
)
