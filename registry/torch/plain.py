"""The values besides tensors that come back from a checkpoint: an explicit table of data classes, and no other."""

import argparse
import collections
import datetime as dt
import decimal
import fractions
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, TypeAlias, cast

import numpy as np
import torch

from registry.errors import UnsupportedValueError
from registry.formats.nodes import Global
from registry.torch.arrays import NUMPY_CLASSES, NUMPY_VALUES

Make: TypeAlias = Callable[..., Any]

_KEYS = (NoneType, bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, np.generic)
_FRACTION = re.compile(r"-?[0-9]{1,1000}(/[0-9]{1,1000})?")
_FACTORIES = {
    "bool": bool,
    "dict": dict,
    "float": float,
    "int": int,
    "list": list,
    "set": set,
    "str": str,
    "tuple": tuple,
}
_LAYOUTS = {
    str(each): each
    for each in (
        torch.strided,
        torch.sparse_coo,
        torch.sparse_csr,
        torch.sparse_csc,
        torch.sparse_bsr,
        torch.sparse_bsc,
    )
}
_ENCODINGS = {"latin1", "latin-1", "utf-8"}
_TORCH_CONSTANTS = frozenset(
    {
        "per_tensor_affine",
        "per_channel_affine",
        "per_tensor_symmetric",
        "per_channel_symmetric",
        "per_channel_affine_float_qparams",
        "contiguous_format",
        "preserve_format",
        "channels_last",
        "channels_last_3d",
    }
)


def find_constant(given: Global) -> Any:
    """Return what a global means where it stands for itself: a dtype, a tensor class, the factory of a defaultdict.

    Raises:
        UnsupportedValueError: it is no data.
    """
    module, name = given.module, given.name
    if module == "torch" and name in _TORCH_CONSTANTS:
        return getattr(torch, name)
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if (module, name) in _CLASSES:
        return _CLASSES[module, name]
    if module in {"builtins", "__builtin__"} and name in _FACTORIES:
        return _FACTORIES[name]
    if module in {"builtins", "__builtin__"} and name in {"Ellipsis", "NotImplemented"}:
        return {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}[name]
    raise refused(given)


def refused(given: object) -> UnsupportedValueError:
    """Return the error about a global that is not in the table."""
    return UnsupportedValueError(
        f"The file holds a {given}, which is code and no plain value; nothing was run. `pull` gets the weights "
        "without it; `load_code(…, trust_code=True)` opens the whole file if you trust who made it.",
        globals=[str(given)],
    )


_CLASSES: dict[tuple[str, str], type] = {
    **NUMPY_CLASSES,
    ("torch", "Tensor"): torch.Tensor,
    ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
    ("collections", "OrderedDict"): collections.OrderedDict,
}


def check_key(value: object) -> Any:
    """Return a value that may be a dict's key or a set's member.

    Raises:
        UnsupportedValueError: hashing it could take forever (tuples in tuples), or it cannot be hashed.
    """
    members = cast("tuple[object, ...]", value) if issubclass(type(value), tuple) else (value,)
    if not all(isinstance(each, _KEYS) for each in members):
        raise UnsupportedValueError(f"A {type(value).__name__} of the file is used as a key or set member.")
    return value


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in _ENCODINGS:
        raise ValueError(f"the encoding {encoding!r} is not used by pickles")
    return text.encode(encoding)


def _bytes(*given: Any) -> bytes:
    # `bytes(10**12)` would allocate that much.
    return bytes(_without_counts(given))


def _bytearray(*given: Any) -> bytearray:
    content = _without_counts(given)
    return bytearray(content)


def _without_counts(given: tuple[Any, ...]) -> bytes | bytearray:
    if not given:
        return b""
    content, *encoding = given
    if isinstance(content, str):
        return _encode(content, *encoding)
    if not isinstance(content, bytes | bytearray):
        raise TypeError("bytes are made of bytes")
    return content


def _fraction(*given: str | int) -> fractions.Fraction:
    # As a text it could be `1e999999999`, a number of a billion digits.
    if any(isinstance(each, str) and _FRACTION.fullmatch(each) is None for each in given):
        raise ValueError("not a fraction of decimal integers")
    return fractions.Fraction(*given)


def _layout(name: str) -> torch.layout:
    if name not in _LAYOUTS:
        raise ValueError(f"there is no layout {name!r}")
    return _LAYOUTS[name]


def _uuid(*, state: dict[str, Any]) -> uuid.UUID:
    return uuid.UUID(int=state["int"])


def _path(*parts: str) -> pathlib.Path:
    return pathlib.Path(*parts)


def _items(given: tuple[Any, ...]) -> Iterable[Any]:
    """Return the items that a collection is made of; a range could be any number of them."""
    content = given[0] if given else ()
    if not isinstance(content, list | tuple | set | frozenset | dict):
        raise TypeError("collections are made of collections")
    return cast("Iterable[Any]", content)


def _tuple(*given: Any) -> tuple[Any, ...]:
    return tuple(_items(given))


def _list(*given: Any) -> list[Any]:
    return list(_items(given))


def _set(*given: Any) -> set[Any]:
    return {check_key(each) for each in _items(given)}


def _frozenset(*given: Any) -> frozenset[Any]:
    return frozenset(_set(*given))


def _dict(*given: Any) -> dict[Any, Any]:
    if given and isinstance(given[0], dict):
        return dict(cast("dict[Any, Any]", given[0]))
    return {check_key(key): value for key, value in _items(given)}


def _ordered_dict(*given: Any) -> collections.OrderedDict[Any, Any]:
    return collections.OrderedDict(_dict(*given))


def _counter(*given: Any) -> collections.Counter[Any]:
    return collections.Counter(_dict(*given))


def _deque(*given: Any) -> collections.deque[Any]:
    return collections.deque(_items(given), *given[1:])


def _slice(*bounds: Any) -> slice:
    return slice(*bounds)


_PATHS = {
    "Path": _path,
    "PosixPath": _path,
    # A path of the other kind of system is one to look at only; so it stays what it is.
    "WindowsPath": pathlib.PureWindowsPath,
    "PurePath": pathlib.PurePath,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}
_BUILTINS: dict[str, Make] = {
    "bytearray": _bytearray,
    "bytes": _bytes,
    "complex": complex,
    "frozenset": _frozenset,
    "range": range,
    "set": _set,
    "slice": _slice,
    "tuple": _tuple,
    "xrange": range,
}

VALUES: dict[tuple[str, str], Make] = {
    **{(module, name): make for module in ("builtins", "__builtin__") for name, make in _BUILTINS.items()},
    **{(module, name): make for module in ("pathlib", "pathlib._local") for name, make in _PATHS.items()},
    **NUMPY_VALUES,
    ("_codecs", "encode"): _encode,
    ("datetime", "date"): dt.date,
    ("datetime", "datetime"): dt.datetime,
    ("datetime", "time"): dt.time,
    ("datetime", "timedelta"): dt.timedelta,
    ("datetime", "timezone"): dt.timezone,
    ("decimal", "Decimal"): decimal.Decimal,
    ("fractions", "Fraction"): _fraction,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch.serialization", "_get_layout"): _layout,
    ("uuid", "UUID"): _uuid,
}
"""Makers of values that never change afterwards; one that takes `state` gets the operand of BUILD."""

CONTAINERS: dict[tuple[str, str], Make] = {
    ("argparse", "Namespace"): argparse.Namespace,
    ("builtins", "dict"): _dict,
    ("__builtin__", "dict"): _dict,
    ("builtins", "list"): _list,
    ("__builtin__", "list"): _list,
    ("collections", "Counter"): _counter,
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "deque"): _deque,
    ("types", "SimpleNamespace"): types.SimpleNamespace,
}
"""Makers of values that are filled after they were made, so that they may hold themselves."""
