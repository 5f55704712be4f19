"""Calls of the few classes that files of nothing but tensors need besides tensors: taken only as picklers write them.

Python's and numpy's own picklers give these fixed arguments. Whatever else would fail while torch loads the file, or
make something that nobody listed (`bytearray(1 << 40)` is a terabyte).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from registry.errors import MalformedArtifactError
from registry.formats.allow_list import standing
from registry.formats.inert_names import LAYOUTS, REBUILD_FROM_TYPE, REBUILD_FUNCTIONS
from registry.formats.nodes import Call, DictNode, Global, ListNode, Node, SetNode, TupleNode, count_members
from registry.formats.values import as_items, as_pairs, function_name, is_hashable, text_bytes

_OTHER_LAYOUTS = frozenset({"_mkldnn", "jagged"})
_NUMPY_CODE = re.compile(r"b1|\?|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|[mM]8|[SUV][0-9]{1,9}")
_DEVICE = re.compile(r"[a-z][a-z0-9_]*(?::(0|[1-9][0-9]{0,2}))?")
_HIGHEST_DEVICE = 127
"""torch keeps the number of a device in one signed byte."""
_ORDERS = frozenset("<>|=")
_STATE_ITEMS = (8, 9)
_HOLDS_OBJECTS = 0b111
"""numpy's flags of dtypes whose elements are references to objects."""
_CHARACTER_BYTES = 4


def check_data_calls(calls: Sequence[Call]) -> None:
    """Return when every call of a file of nothing but tensors and plain values is one that a pickler writes.

    Raises:
        MalformedArtifactError: one is not, and torch would fail on it.
    """
    for call in calls:
        if type(call.function) is not Global:
            continue
        pair = call.function.pair
        if call.construct or call.keywords:
            _refuse(call, "constructs it instead of calling it")
        check = _CHECKS.get(pair)
        if check is not None:
            check(call)
        elif pair not in REBUILD_FUNCTIONS and pair != REBUILD_FROM_TYPE and standing(*pair) in {"tensors", "numpy"}:
            _check_other(call, pair)


def _refuse(call: Call, what: str) -> NoReturn:
    raise MalformedArtifactError(f"The file {what}, as no pickler does: {function_name(call)}.")


def _check_other(call: Call, pair: tuple[str, str]) -> None:
    if pair != ("torch.nn.parameter", "Parameter"):
        _refuse(call, "calls what is not called")


def _arguments(call: Call, *counts: int) -> tuple[Node, ...]:
    if len(call.arguments) not in counts:
        _refuse(call, "gives it a wrong number of arguments")
    return call.arguments


def _ordered_dict(call: Call) -> None:
    """`OrderedDict()`, or in Python 2 a list of pairs; then items, and attributes by BUILD."""
    _check_unchanged(call)
    for initial in _arguments(call, 0, 1):
        if as_pairs(initial) is None and not _is_list_of_pairs(initial):
            _refuse(call, "fills it with what are no pairs")
    if call.items or not all(is_hashable(key) for key, _ in call.pairs):
        _refuse(call, "fills it in another way")
    if call.has_state and (
        type(call.state) is not DictNode or any(type(key) is not str for key, _ in call.state.pairs)
    ):
        _refuse(call, "gives it attributes without names")


def _check_unchanged(call: Call) -> None:
    """Refuse a copy of what grew afterwards: the copy holds what there was, and we see what there is."""
    if call.given is not None and call.given != count_members(call.arguments[0]):
        _refuse(call, "adds to what it was made of")


def _is_list_of_pairs(node: Node) -> bool:
    items = node.items if isinstance(node, ListNode | TupleNode) else None
    return items is not None and all(
        isinstance(each, ListNode | TupleNode) and len(each.items) == 2  # noqa: PLR2004 - a key and a value
        for each in items
    )


def _counter(call: Call) -> None:
    _check_unchanged(call)
    for initial in _arguments(call, 0, 1):
        if type(initial) is not DictNode:
            _refuse(call, "counts what is no dict")
    if not all(is_hashable(key) for key, _ in call.pairs):
        _refuse(call, "fills it in another way")


def _set(call: Call) -> None:
    _check_unchanged(call)
    for initial in _arguments(call, 0, 1):
        if not isinstance(initial, ListNode | TupleNode | SetNode) or not all(map(is_hashable, initial.items)):
            _refuse(call, "fills it with what is no list")
    if not all(map(is_hashable, call.items)):
        _refuse(call, "adds to it what no set holds")


def _bytearray(call: Call) -> None:
    arguments = _arguments(call, 0, 1, 2)
    if len(arguments) == 1 and text_bytes(arguments[0]) is None:
        _refuse(call, "makes it of what are no bytes")
    if len(arguments) == 2:  # noqa: PLR2004 - text and encoding
        _check_latin(call, arguments)


def _complex(call: Call) -> None:
    if any(type(part) is not float for part in _arguments(call, 2)):
        _refuse(call, "makes it of what are no floats")


def _size(call: Call) -> None:
    _check_unchanged(call)
    (sizes,) = _arguments(call, 1)
    if not isinstance(sizes, TupleNode | ListNode) or not all(_is_int64(each) for each in sizes.items):
        _refuse(call, "makes it of what are no integers")


def _is_int64(node: Node) -> bool:
    return type(node) is int and -(1 << 63) <= node < 1 << 63


def _device(call: Call) -> None:
    kind, *index = _arguments(call, 1, 2)
    known = _DEVICE.fullmatch(kind) if isinstance(kind, str) else None
    numbers = [*index, *(int(each) for each in (known.groups() if known else ()) if each is not None)]
    right = all(type(each) is int and 0 <= each <= _HIGHEST_DEVICE for each in numbers)
    if known is None or not right or len(numbers) > 1:
        _refuse(call, "names no device")


def _layout(call: Call) -> None:
    (name,) = _arguments(call, 1)
    if not isinstance(name, str) or name.removeprefix("torch.") not in LAYOUTS | _OTHER_LAYOUTS:
        _refuse(call, "names no layout")


def _encode(call: Call) -> None:
    _check_latin(call, _arguments(call, 2))


def _check_latin(call: Call, arguments: Sequence[Node]) -> None:
    """Bytes of protocol 2: their text, and how to make bytes of it."""
    text, encoding = arguments
    if not isinstance(text, str) or not isinstance(encoding, str) or encoding not in {"latin1", "latin-1"}:
        _refuse(call, "makes bytes in another way")
    if any(character > "\xff" for character in text):
        _refuse(call, "makes bytes of a text that is none")


def _numpy_dtype(call: Call) -> None:
    """`dtype('f4', False, True)`, then BUILD with its byte order; structured ones with their fields."""
    code, *flags = _arguments(call, 1, 3)
    if not isinstance(code, str) or not _NUMPY_CODE.fullmatch(code) or not all(isinstance(each, int) for each in flags):
        _refuse(call, "names no dtype")
    if not call.has_state:
        return
    state = _state_items(call)
    if len(state) not in _STATE_ITEMS or type(state[0]) is not int or state[0] not in {3, 4}:
        _refuse(call, "gives it an unknown state")
    if not isinstance(state[1], str) or state[1] not in _ORDERS:
        _refuse(call, "gives it an unknown byte order")
    if any(not _is_int64(each) for each in state[5:8]) or state[7] & _HOLDS_OBJECTS:
        _refuse(call, "gives it a size that is none, or objects")
    if code[0] not in "mMV" and any(each is not None for each in state[2:5]):
        _refuse(call, "gives it fields")


def numpy_itemsize(dtype: Node) -> int | None:
    """Return the bytes of an element of `numpy.dtype(...)`, None when it is no plain one."""
    code = dtype.arguments[0] if function_name(dtype) == "numpy.dtype" and dtype.arguments else None
    if not isinstance(code, str) or not _NUMPY_CODE.fullmatch(code):
        return None
    digits = int(code[1:] or 1)
    return digits * _CHARACTER_BYTES if code[0] == "U" else digits


def _numpy_scalar(call: Call) -> None:
    dtype, raw = _arguments(call, 2)
    data, size = text_bytes(raw), numpy_itemsize(dtype)
    if data is None or size is None or len(data) != size:
        _refuse(call, "makes it of what are not its bytes")


def _numpy_array(call: Call) -> None:
    kind, shape, code = _arguments(call, 3)
    named = type(kind) is Global and kind.pair == ("numpy", "ndarray")
    if not named or [*(as_items(shape) or ())] != [0] or text_bytes(code) != b"b":
        _refuse(call, "makes it in another way")
    if not call.has_state:
        return
    state = _state_items(call)
    if len(state) != 5 or type(state[0]) is not int or state[0] != 1 or type(state[3]) is not bool:  # noqa: PLR2004 - version, shape, dtype, order, bytes
        _refuse(call, "gives it an unknown state")
    _check_array(call, state[1], state[2], state[4])


def _state_items(call: Call) -> Sequence[Node]:
    return call.state.items if type(call.state) is TupleNode else ()


def _numpy_buffer(call: Call) -> None:
    raw, dtype, shape, order = _arguments(call, 4)
    if not isinstance(order, str) or order not in {"C", "F"}:
        _refuse(call, "orders it in another way")
    _check_array(call, shape, dtype, raw)


def _check_array(call: Call, shape: Node, dtype: Node, raw: Node) -> None:
    lengths = shape.items if type(shape) is TupleNode else None
    data, size = text_bytes(raw), numpy_itemsize(dtype)
    if lengths is None or not all(_is_int64(each) and each >= 0 for each in lengths):
        _refuse(call, "gives it no shape")
    if data is None or size is None or len(data) != math.prod(lengths) * size:
        _refuse(call, "gives it a wrong number of bytes")


_CHECKS: Mapping[tuple[str, str], Callable[[Call], None]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "Counter"): _counter,
    **{(module, "set"): _set for module in ("builtins", "__builtin__")},
    **{(module, "bytearray"): _bytearray for module in ("builtins", "__builtin__")},
    **{(module, "complex"): _complex for module in ("builtins", "__builtin__")},
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch.serialization", "_get_layout"): _layout,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _numpy_dtype,
    **{(f"numpy.{package}.multiarray", "scalar"): _numpy_scalar for package in ("core", "_core")},
    **{(f"numpy.{package}.multiarray", "_reconstruct"): _numpy_array for package in ("core", "_core")},
    **{(f"numpy.{package}.numeric", "_frombuffer"): _numpy_buffer for package in ("core", "_core")},
}
