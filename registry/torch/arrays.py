"""numpy scalars, dtypes and arrays of a checkpoint, made of their bytes; numpy's own rebuilding is never called."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_DTYPE_CODE = re.compile(r"[?bBhHiIlLqQefdgFDG]|[biufcSUVmM][0-9]{1,9}")
_BYTE_ORDERS = {"<", ">", "|", "="}
_UNIT = re.compile(rb"[A-Za-z]{1,8}")


def _dtype(code: str, *_flags: bool, state: Sequence[Any] | None = None) -> np.dtype[Any]:
    """Return a dtype of plain elements; `state` is `(version, byte order, subdtype, names, fields, …)`."""
    if _DTYPE_CODE.fullmatch(code) is None:
        raise ValueError(f"the numpy dtype {code!r} holds more than numbers, texts and times")
    if state is None:
        return np.dtype(code)
    order, fields = state[1], state[2:5]
    if order not in _BYTE_ORDERS or any(each is not None for each in fields):
        raise ValueError("structured numpy dtypes are no plain values")
    return np.dtype(code + _time_unit(code, state)).newbyteorder(order)


def _time_unit(code: str, state: Sequence[Any]) -> str:
    """Return the unit of a time's dtype (`[25s]`), which numpy keeps in the ninth item of its state."""
    if code[0] not in "mM" or len(state) < 9:  # noqa: PLR2004 - explained above
        return ""
    unit, count = state[8][1][:2]
    if _UNIT.fullmatch(unit) is None:
        raise ValueError("a numpy time has an unknown unit")
    return "" if unit == b"generic" else f"[{int(count)}{unit.decode()}]"


def _scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    if len(data) != dtype.itemsize:
        raise ValueError("a numpy scalar has too few or too many bytes")
    return np.frombuffer(data, dtype, count=1)[0] if data else dtype.type()


def _reconstruct(kind: type, _shape: object, _code: object, *, state: Sequence[Any] | None = None) -> Any:
    """Return an array; `state` is `(version, shape, dtype, fortran order, bytes)`."""
    if kind is not np.ndarray or state is None:
        raise TypeError("subclasses of numpy arrays are no plain values")
    _version, shape, dtype, fortran, data = state
    found = _array(data, dtype, shape, "F" if fortran else "C")
    # As numpy does when it unpickles: such arrays come back in the machine's byte order.
    return found.astype(dtype.newbyteorder("="), copy=False)


def _array(data: bytes | bytearray, dtype: np.dtype[Any], shape: Sequence[int], order: Any) -> Any:
    if order not in {"C", "F"}:
        raise ValueError("a numpy array is in an unknown order")
    if 0 in shape or not dtype.itemsize:
        # `frombuffer` takes no empty buffer; the size limits keep such an array from needing memory.
        return np.empty(shape, dtype, order)
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order=order)


_MULTIARRAY = {"scalar": _scalar, "_reconstruct": _reconstruct}

NUMPY_VALUES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
    **{(f"numpy.{core}.multiarray", name): make for core in ("core", "_core") for name, make in _MULTIARRAY.items()},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
}
NUMPY_CLASSES: dict[tuple[str, str], type] = {("numpy", "ndarray"): np.ndarray}
