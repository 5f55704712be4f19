"""The pickle opcodes that make and fill tuples, lists, sets and dicts."""

import struct
from collections.abc import Sequence

from registry.formats.machine_state import BrokenPickleError, Handler, Machine
from registry.formats.nodes import Call, DictNode, Global, ListNode, Node, SetNode, TupleNode
from registry.formats.values import is_hashable

unpack_u32 = struct.Struct("<I").unpack_from
_u64 = struct.Struct("<Q").unpack_from
PAIR_BYTES = 104
"""A pair and its place in a list, estimated."""


def empty_list(m: Machine, pos: int) -> int:
    """EMPTY_LIST."""
    m.stack.append(ListNode())
    return pos


def empty_dict(m: Machine, pos: int) -> int:
    """EMPTY_DICT."""
    m.stack.append(DictNode())
    return pos


def empty_set(m: Machine, pos: int) -> int:
    """EMPTY_SET."""
    m.stack.append(SetNode())
    return pos


def empty_tuple(m: Machine, pos: int) -> int:
    """EMPTY_TUPLE."""
    m.stack.append(TupleNode(()))
    return pos


def tuple1(m: Machine, pos: int) -> int:
    """TUPLE1: of the newest value."""
    m.stack[-1:] = [TupleNode((m.stack[-1],))]
    return pos


def tuple_of(length: int) -> Handler:
    """TUPLE2 and TUPLE3: of the newest values."""

    def make(m: Machine, pos: int) -> int:
        items = tuple(m.stack[-length:])
        if len(items) < length:
            raise IndexError
        m.stack[-length:] = [TupleNode(items)]
        return pos

    return make


def tuple_of_mark(m: Machine, pos: int) -> int:
    """TUPLE: of the values since the last MARK."""
    items = m.pop_mark()
    m.stack.append(TupleNode(tuple(items)))
    return pos


def list_of_mark(m: Machine, pos: int) -> int:
    """LIST: of the values since the last MARK."""
    items = m.pop_mark()
    m.stack.append(ListNode(items))
    return pos


def frozenset_of_mark(m: Machine, pos: int) -> int:
    """FROZENSET: of the values since the last MARK."""
    items = m.pop_mark()
    _check_keys(items)
    m.stack.append(SetNode(items, frozen=True))
    return pos


def _pairs(m: Machine, items: Sequence[Node]) -> list[tuple[Node, Node]]:
    if len(items) % 2:
        raise BrokenPickleError("a key has no value")
    m.charge(PAIR_BYTES * (len(items) // 2))
    return list(zip(items[::2], items[1::2], strict=True))


def dict_of_mark(m: Machine, pos: int) -> int:
    """DICT: of the keys and values since the last MARK."""
    items = m.pop_mark()
    _check_keys(items[::2])
    m.stack.append(DictNode(_pairs(m, items)))
    return pos


def _check_keys(keys: Sequence[Node]) -> None:
    if not all(map(is_hashable, keys)):
        raise BrokenPickleError("it has a key that no dict can have")


def _extend(m: Machine, target: Node, items: Sequence[Node]) -> None:
    if isinstance(target, ListNode):
        target.items.extend(items)
    elif isinstance(target, Call):
        target.add_items(items)
    else:
        _confused(m, "appends to", target)


def append(m: Machine, pos: int) -> int:
    """APPEND: one value."""
    item = m.stack.pop()
    _extend(m, m.stack[-1], (item,))
    return pos


def appends(m: Machine, pos: int) -> int:
    """APPENDS: the values since the last MARK."""
    items = m.pop_mark()
    _extend(m, m.stack[-1], items)
    return pos


def additems(m: Machine, pos: int) -> int:
    """ADDITEMS: the values since the last MARK, to a set."""
    items = m.pop_mark()
    target = m.stack[-1]
    if isinstance(target, SetNode) and not target.frozen:
        _check_keys(items)
        target.items.extend(items)
    elif isinstance(target, Call):
        target.add_items(items)
    else:
        _confused(m, "adds items to", target)
    return pos


def _set_pairs(m: Machine, target: Node, pairs: list[tuple[Node, Node]]) -> None:
    if isinstance(target, DictNode):
        _check_keys([key for key, _ in pairs])
        target.pairs.extend(pairs)
    elif isinstance(target, Call):
        target.add_pairs(pairs)
    else:
        _confused(m, "sets items of", target)


def setitem(m: Machine, pos: int) -> int:
    """SETITEM: one key and value."""
    value = m.stack.pop()
    key = m.stack.pop()
    _set_pairs(m, m.stack[-1], [(key, value)])
    return pos


def setitems(m: Machine, pos: int) -> int:
    """SETITEMS: the keys and values since the last MARK."""
    items = m.pop_mark()
    _set_pairs(m, m.stack[-1], _pairs(m, items))
    return pos


def _confused(m: Machine, verb: str, target: Node) -> None:
    """An operation on a value that does not support it: an attack when that value is no plain one."""
    kind = type(target).__name__
    if type(target) is Global:
        m.danger(f"It {verb} a class or function.")
        return
    raise BrokenPickleError(f"it {verb} a value of type {kind}")
