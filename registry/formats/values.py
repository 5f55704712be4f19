"""Nodes seen as the containers and plain values that they stand for."""

import math
import struct
from typing import Any, Final

from registry.formats.limits import Limits
from registry.formats.nodes import Call, DictNode, Global, ListNode, Node, SetNode, StorageRef, TupleNode

Pair = tuple[Node, Node]

NO_VALUE: Final = object()
"""What `plain_value` returns for a node that is no plain value."""

_DICTS = frozenset(
    {("collections", "OrderedDict"), ("collections", "Counter"), ("builtins", "dict"), ("__builtin__", "dict")}
)
_SEQUENCES = frozenset(
    f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list", "tuple")
) | {"torch.Size", "collections.deque"}
_NUMPY_FORMATS = {
    "f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "b1": "?",
}  # fmt: skip
_UNHASHABLE = frozenset(
    f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "set", "bytearray")
) | {"collections.OrderedDict", "collections.Counter", "collections.defaultdict", "collections.deque"}
_COMPARED = (str, int, float, bytes, type(None))
_KEY_NODES = 1000
_JSON_DEPTH = 16
_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (DictNode, "dict"),
    (ListNode, "list"),
    (TupleNode, "tuple"),
    (StorageRef, "torch storage"),
    (type(None), "None"),
)


def called_pair(node: Node) -> tuple[str, str] | None:
    """Return module and name of what a call calls, None for anything but a call of a global."""
    return node.function.pair if type(node) is Call and type(node.function) is Global else None


def function_name(node: Node) -> str | None:
    """Return `module.name` of what a call calls, None for anything but a call of a global."""
    pair = called_pair(node)
    return None if pair is None else f"{pair[0]}.{pair[1]}"


def as_pairs(node: Node) -> list[Pair] | None:
    """Return what a mapping holds, a repeated key once with its last value; None when it is no mapping."""
    if type(node) is DictNode:
        return _last_wins(node.pairs)
    if type(node) is not Call:
        return None
    pair = called_pair(node)
    if pair in _DICTS:
        sources = node.arguments[:1]
    elif pair == ("collections", "defaultdict"):
        sources = node.arguments[1:2]
    elif node.pairs:
        sources = ()
    else:
        return None
    initial = _initial_pairs(sources[0]) if sources else ()
    if initial is None:
        return None
    pairs = [*initial, *node.pairs]
    return _last_wins(pairs) if len(pairs) > 1 else pairs


def _initial_pairs(node: Node) -> list[Pair] | None:
    """Return the pairs that a mapping is constructed from: a dict, or a sequence of pairs."""
    if type(node) is DictNode:
        return node.pairs
    pairs: list[Pair] = []
    for item in as_items(node) or ():
        pair = as_items(item)
        if pair is None or len(pair) != 2:  # noqa: PLR2004 - a key and a value
            return None
        pairs.append((pair[0], pair[1]))
    return pairs


def _last_wins(pairs: list[Pair]) -> list[Pair]:
    """Return equal keys once, the first with the last value, as dicts do. Others than plain ones are never compared."""
    found: dict[Any, Pair] = {}
    for key, value in pairs:
        identity = key if isinstance(key, _COMPARED) else object()
        found[identity] = (found[identity][0] if identity in found else key, value)
    return list(found.values())


def as_items(node: Node) -> list[Node] | tuple[Node, ...] | None:
    """Return what a sequence or set holds; None when it is neither."""
    if isinstance(node, ListNode | TupleNode | SetNode):
        return node.items
    if not isinstance(node, Call):
        return None
    if function_name(node) in _SEQUENCES:
        initial = as_literal_items(node.arguments[0]) if node.arguments else ()
        return None if initial is None else [*initial, *node.items]
    return node.items or None


def is_hashable(node: Node) -> bool:
    """Return whether a dict or set may hold it as a key: what Python refuses is refused, and deep nests of tuples."""
    if type(node) is str or type(node) is int:
        return True
    waiting: list[Node] = [node]
    for _ in range(_KEY_NODES):
        if not waiting:
            return True
        node = waiting.pop()
        if isinstance(node, ListNode | DictNode) or function_name(node) in _UNHASHABLE:
            return False
        if isinstance(node, SetNode) and not node.frozen:
            return False
        if isinstance(node, TupleNode | SetNode):
            waiting += node.items
    return not waiting


def as_literal_items(node: Node) -> list[Node] | tuple[Node, ...] | None:
    """Return what a literal list, tuple or set holds."""
    return node.items if isinstance(node, ListNode | TupleNode | SetNode) else None


def state_pairs(node: Call) -> list[Pair]:
    """Return the attributes that BUILD gives an instance: a dict, or a dict and the values of slots."""
    parts = node.state.items if type(node.state) is TupleNode else (node.state,)
    return [pair for part in parts for pair in as_pairs(part) or ()]


def attribute(node: Call, name: str) -> Node:
    """Return an attribute of an instance, None when it has none of that name."""
    for key, value in reversed(state_pairs(node)):
        if type(key) is str and key == name:
            return value
    return None


def type_name(node: Node) -> str:
    """Return what the value of a node would be an instance of, for people."""
    if isinstance(node, SetNode):
        return "frozenset" if node.frozen else "set"
    if isinstance(node, Global):
        return "torch.dtype" if node.module == "torch" and node.name[:1].islower() else "class or function"
    for kind, name in _TYPE_NAMES:
        if isinstance(node, kind):
            return name
    return function_name(node) or type(node).__name__


def plain_value(node: Node, limits: Limits) -> Any:
    """Return the number, text, truth value or None that a node stands for, or `NO_VALUE`.

    Paths, devices and dtypes become text; numpy's scalars become Python's.
    """
    if node is None or isinstance(node, bool | float):
        return node
    if isinstance(node, int):
        return node if -(2**63) <= node < 2**64 else NO_VALUE
    if isinstance(node, str):
        return node if len(node) <= limits.scalar_characters else NO_VALUE
    if type(node) is Global:
        return str(node) if type_name(node) == "torch.dtype" else NO_VALUE
    return _computed_value(node, limits) if type(node) is Call else NO_VALUE


def _computed_value(node: Call, limits: Limits) -> Any:
    name = function_name(node) or ""
    if name.endswith(".multiarray.scalar"):
        return _numpy_scalar(node)
    if name.startswith("pathlib.") and all(isinstance(part, str) for part in node.arguments):
        text = "/".join(node.arguments).replace("//", "/", 1)
        return text if len(text) <= limits.scalar_characters else NO_VALUE
    if name == "torch.device":
        return ":".join(str(part) for part in node.arguments if isinstance(part, str | int))
    return NO_VALUE


def text_bytes(node: Node) -> bytes | None:
    """Return bytes, which protocol 2 writes as `_codecs.encode(text, "latin1")`."""
    if isinstance(node, bytes):
        return node
    if function_name(node) in {"builtins.bytes", "__builtin__.bytes"} and not node.arguments:
        return b""
    if function_name(node) == "_codecs.encode" and len(node.arguments) == 2:  # noqa: PLR2004 - text and encoding
        text, encoding = node.arguments
        if isinstance(text, str) and encoding == "latin1":
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                return None
    return None


def numpy_dtype(node: Node) -> str | None:
    """Return `numpy.dtype(...)` as text with its byte order (`<f8`), None when it is something else."""
    if function_name(node) != "numpy.dtype" or not node.arguments or not isinstance(node.arguments[0], str):
        return None
    state = as_items(node.state) or ()
    order = state[1] if len(state) > 1 and isinstance(state[1], str) else "|"
    return f"{order}{node.arguments[0]}"


def _numpy_scalar(node: Call) -> Any:
    if len(node.arguments) != 2:  # noqa: PLR2004 - dtype and bytes
        return NO_VALUE
    dtype, raw = numpy_dtype(node.arguments[0]), text_bytes(node.arguments[1])
    code = _NUMPY_FORMATS.get(dtype[1:]) if dtype else None
    if dtype is None or raw is None or code is None:
        return NO_VALUE
    layout = struct.Struct((">" if dtype[0] == ">" else "<") + code)
    return layout.unpack(raw)[0] if len(raw) == layout.size else NO_VALUE


def json_value(node: Node, limits: Limits, depth: int = 0) -> Any:
    """Return a node as plain JSON (nested at most 16 deep, lists of at most `scalar_items`), or `NO_VALUE`."""
    value = plain_value(node, limits)
    if value is not NO_VALUE:
        return NO_VALUE if isinstance(value, float) and not math.isfinite(value) else value
    if depth >= _JSON_DEPTH:
        return NO_VALUE
    pairs, items = as_pairs(node), as_items(node)
    if pairs is not None and len(pairs) <= limits.scalar_items:
        members = {key: json_value(value, limits, depth + 1) for key, value in pairs if isinstance(key, str)}
        complete = len(members) == len(pairs) and NO_VALUE not in members.values()
        return members if complete else NO_VALUE
    if pairs is None and items is not None and len(items) <= limits.scalar_items:
        values = [json_value(item, limits, depth + 1) for item in items]
        return NO_VALUE if NO_VALUE in values else values
    return NO_VALUE
