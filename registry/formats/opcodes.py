"""What each pickle opcode does to the machine: one small function each, as `pickletools` describes them."""

import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

from registry.formats import literals
from registry.formats.literals import decode_text, parse_integer
from registry.formats.machine_state import BrokenPickleError, Empty, Machine
from registry.formats.nodes import Call, DictNode, Global, ListNode, Node, SetNode, TupleNode

Handler: TypeAlias = Callable[[Machine, int], int]
"""Takes the position after the opcode and returns the one after its operand. An `IndexError` means an empty stack."""

STOP = 0x2E
BINGET = 0x68
LONG_BINPUT = 0x72
ONE_BYTE_OPERANDS = frozenset(b"KUChq\x80\x8a\x8c")
"""Opcodes that read one byte without asking whether there is one."""
HIGHEST_PROTOCOL = 5
unpack_u32 = struct.Struct("<I").unpack_from
_u64 = struct.Struct("<Q").unpack_from
_PAIR_BYTES = 72
"""A pair and its place in a list, estimated."""


def _push(value: Node) -> Handler:
    def push(m: Machine, pos: int) -> int:
        m.stack.append(value)
        return pos

    return push


# The stack and the memo


def _mark(m: Machine, pos: int) -> int:
    if len(m.marks) >= m.limits.mark_depth:
        raise BrokenPickleError(f"more than {m.limits.mark_depth} MARKs are open")
    m.marks.append(m.stack)
    m.stack = []
    return pos


def _pop(m: Machine, pos: int) -> int:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()
    return pos


def _pop_mark(m: Machine, pos: int) -> int:
    m.pop_mark()
    return pos


def _dup(m: Machine, pos: int) -> int:
    m.stack.append(m.stack[-1])
    return pos


def _store(m: Machine, index: int) -> None:
    value, memo = m.stack[-1], m.memo
    if index < 0 or index > m.count:
        raise BrokenPickleError("a memo index is one that no pickler writes")
    if index < len(memo):
        m.memo_holes -= memo[index] is Empty
        memo[index] = value
        return
    missing = index - len(memo)
    m.charge(8 * missing)
    m.memo_holes += missing
    memo.extend([Empty] * missing)
    memo.append(value)


def _put(m: Machine, pos: int) -> int:
    line, pos = m.take_line(pos)
    _store(m, parse_integer(line))
    return pos


def _binput(m: Machine, pos: int) -> int:
    _store(m, m.data[pos])
    return pos + 1


def _long_binput(m: Machine, pos: int) -> int:
    _store(m, unpack_u32(m.data, pos)[0])
    return pos + 4


def _memoize(m: Machine, pos: int) -> int:
    _store(m, len(m.memo) - m.memo_holes)
    return pos


def _fetch(m: Machine, index: int) -> None:
    value = m.memo[index] if 0 <= index < len(m.memo) else Empty
    if value is Empty:
        m.refuse_memo()
    m.stack.append(value)


def _get(m: Machine, pos: int) -> int:
    line, pos = m.take_line(pos)
    _fetch(m, parse_integer(line))
    return pos


def _long_binget(m: Machine, pos: int) -> int:
    _fetch(m, unpack_u32(m.data, pos)[0])
    return pos + 4


# Containers


def _empty_list(m: Machine, pos: int) -> int:
    m.stack.append(ListNode())
    return pos


def _empty_dict(m: Machine, pos: int) -> int:
    m.stack.append(DictNode())
    return pos


def _empty_set(m: Machine, pos: int) -> int:
    m.stack.append(SetNode())
    return pos


def _empty_tuple(m: Machine, pos: int) -> int:
    m.stack.append(TupleNode(()))
    return pos


def _tuple1(m: Machine, pos: int) -> int:
    m.stack[-1:] = [TupleNode((m.stack[-1],))]
    return pos


def _tuple_of(length: int) -> Handler:
    def tuple_of(m: Machine, pos: int) -> int:
        items = tuple(m.stack[-length:])
        if len(items) < length:
            raise IndexError
        m.stack[-length:] = [TupleNode(items)]
        return pos

    return tuple_of


def _tuple(m: Machine, pos: int) -> int:
    items = m.pop_mark()
    m.stack.append(TupleNode(tuple(items)))
    return pos


def _list(m: Machine, pos: int) -> int:
    items = m.pop_mark()
    m.stack.append(ListNode(items))
    return pos


def _frozenset(m: Machine, pos: int) -> int:
    items = m.pop_mark()
    m.stack.append(SetNode(items, frozen=True))
    return pos


def _pairs(m: Machine, items: Sequence[Node]) -> list[tuple[Node, Node]]:
    if len(items) % 2:
        raise BrokenPickleError("a key has no value")
    m.charge(_PAIR_BYTES * (len(items) // 2))
    return list(zip(items[::2], items[1::2], strict=True))


def _dict(m: Machine, pos: int) -> int:
    items = m.pop_mark()
    m.stack.append(DictNode(_pairs(m, items)))
    return pos


def _extend(m: Machine, target: Node, items: Sequence[Node]) -> None:
    if isinstance(target, ListNode):
        target.items.extend(items)
    elif isinstance(target, Call):
        target.add_items(items)
    else:
        _confused(m, "appends to", target)


def _append(m: Machine, pos: int) -> int:
    item = m.stack.pop()
    _extend(m, m.stack[-1], (item,))
    return pos


def _appends(m: Machine, pos: int) -> int:
    items = m.pop_mark()
    _extend(m, m.stack[-1], items)
    return pos


def _additems(m: Machine, pos: int) -> int:
    items = m.pop_mark()
    target = m.stack[-1]
    if isinstance(target, SetNode) and not target.frozen:
        target.items.extend(items)
    elif isinstance(target, Call):
        target.add_items(items)
    else:
        _confused(m, "adds items to", target)
    return pos


def _set_pairs(m: Machine, target: Node, pairs: list[tuple[Node, Node]]) -> None:
    if isinstance(target, DictNode):
        target.pairs.extend(pairs)
    elif isinstance(target, Call):
        target.add_pairs(pairs)
    else:
        _confused(m, "sets items of", target)


def _setitem(m: Machine, pos: int) -> int:
    value = m.stack.pop()
    key = m.stack.pop()
    _set_pairs(m, m.stack[-1], [(key, value)])
    return pos


def _setitems(m: Machine, pos: int) -> int:
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


# Classes, functions and instances


def _global(m: Machine, pos: int) -> int:
    module, pos = m.take_line(pos)
    name, pos = m.take_line(pos)
    m.stack.append(m.mention(decode_text(module), decode_text(name)))
    return pos


def _stack_global(m: Machine, pos: int) -> int:
    name = m.stack.pop()
    module = m.stack.pop()
    if type(name) is str and type(module) is str:
        m.stack.append(m.mention(module, name))
        return pos
    m.danger("It computes the name of a class or function instead of spelling it out.")
    m.stack.append(Call(Global("<computed>", "<computed>"), ()))
    return pos


def _extension(width: int) -> Handler:
    def extension(m: Machine, pos: int) -> int:
        code = int.from_bytes(m.take(pos, width), "little")
        m.danger("It names a class or function by a number of copyreg's extension registry.")
        registry = m.mention("copyreg", "_extension_registry")
        m.stack.append(Call(registry, (code,)))
        return pos + width

    return extension


def _arguments(m: Machine, node: Node) -> tuple[Node, ...]:
    if type(node) is TupleNode:
        return node.items
    if type(node) is Call:
        m.danger("It computes the arguments of a call.")
        return (node,)
    raise BrokenPickleError("the arguments of a call are no tuple")


def _reduce(m: Machine, pos: int) -> int:
    arguments = _arguments(m, m.stack.pop())
    m.stack[-1] = m.call(m.stack[-1], arguments, construct=False)
    return pos


def _newobj(m: Machine, pos: int) -> int:
    arguments = _arguments(m, m.stack.pop())
    m.stack[-1] = m.call(m.stack[-1], arguments, construct=True)
    return pos


def _newobj_ex(m: Machine, pos: int) -> int:
    keywords = m.stack.pop()
    arguments = _arguments(m, m.stack.pop())
    if type(keywords) is not DictNode:
        raise BrokenPickleError("the keyword arguments of a call are no dict")
    node = m.call(m.stack[-1], arguments, construct=True)
    node.keywords = list(keywords.pairs)
    m.stack[-1] = node
    return pos


def _inst(m: Machine, pos: int) -> int:
    module, pos = m.take_line(pos)
    name, pos = m.take_line(pos)
    function = m.mention(decode_text(module, "ascii"), decode_text(name, "ascii"))
    arguments = m.pop_mark()
    m.stack.append(m.call(function, tuple(arguments), construct=False))
    return pos


def _obj(m: Machine, pos: int) -> int:
    function, *arguments = m.pop_mark() or _underflow()
    m.stack.append(m.call(function, tuple(arguments), construct=False))
    return pos


def _underflow() -> list[Node]:
    raise IndexError


def _build(m: Machine, pos: int) -> int:
    state = m.stack.pop()
    target = m.stack[-1]
    if type(target) is not Call:
        m.danger("It sets the state of something that is no instance.")
        return pos
    if target.has_state:
        m.danger("It sets the state of one object twice.")
    target.state = state
    target.has_state = True
    return pos


# Persistent ids and framing


def _push_persistent(m: Machine, identity: Node) -> None:
    if m.persistent_load is None:
        raise BrokenPickleError("it has a persistent id where none belongs")
    m.stack.append(m.persistent_load(identity))


def _persid(m: Machine, pos: int) -> int:
    line, pos = m.take_line(pos)
    _push_persistent(m, decode_text(line, "ascii"))
    return pos


def _binpersid(m: Machine, pos: int) -> int:
    _push_persistent(m, m.stack.pop())
    return pos


def _proto(m: Machine, pos: int) -> int:
    if pos != m.start + 1:
        raise BrokenPickleError("its PROTO is not at the start")
    if m.data[pos] > HIGHEST_PROTOCOL:
        raise BrokenPickleError("its protocol is unknown")
    return pos + 1


def _frame(m: Machine, pos: int) -> int:
    pos += 8
    m.enter_frame(pos, _u64(m.data, pos - 8)[0])
    return pos


def _unknown(_m: Machine, _pos: int) -> int:
    raise BrokenPickleError("an opcode is unknown")


_VALUE, _SMALL, _STRING, _NODE, _CALL = 8, 40, 72, 112, 128
"""Estimated bytes of what an opcode makes, its place on the stack included."""

_OPCODES: dict[bytes, tuple[Handler, int]] = {
    b"N": (_push(value=None), _VALUE), b"\x88": (_push(value=True), _VALUE), b"\x89": (_push(value=False), _VALUE),
    b"K": (literals.binint1, _VALUE), b"M": (literals.binint2, _SMALL), b"J": (literals.binint, _SMALL),
    b"I": (literals.text_int, _SMALL),
    b"L": (literals.text_long, _SMALL), b"\x8a": (literals.long1, _SMALL), b"\x8b": (literals.long4, _SMALL),
    b"F": (literals.text_float, _SMALL), b"G": (literals.binfloat, _SMALL),
    b"S": (literals.text_string, _STRING), b"T": (literals.binstring, _STRING),
    b"U": (literals.short_binstring, _STRING),
    b"V": (literals.text_unicode, _STRING), b"X": (literals.binunicode, _STRING),
    b"\x8c": (literals.short_binunicode, _STRING),
    b"\x8d": (literals.binunicode8, _STRING), b"B": (literals.binbytes, _STRING),
    b"C": (literals.short_binbytes, _STRING),
    b"\x8e": (literals.binbytes8, _STRING), b"\x96": (literals.binbytes8, _STRING),
    b"\x97": (literals.buffer, 0), b"\x98": (literals.buffer, 0),
    b"(": (_mark, _STRING), b"0": (_pop, 0), b"1": (_pop_mark, 0), b"2": (_dup, _VALUE),
    b"p": (_put, _VALUE), b"q": (_binput, _VALUE), b"r": (_long_binput, _VALUE),
    b"\x94": (_memoize, _VALUE),
    b"g": (_get, _VALUE), b"j": (_long_binget, _VALUE),
    b"]": (_empty_list, _NODE), b"}": (_empty_dict, _NODE), b"\x8f": (_empty_set, _NODE),
    b")": (_empty_tuple, _STRING), b"\x85": (_tuple1, _NODE), b"\x86": (_tuple_of(2), _NODE),
    b"\x87": (_tuple_of(3), _NODE), b"t": (_tuple, _NODE), b"l": (_list, _NODE), b"d": (_dict, _NODE),
    b"\x91": (_frozenset, _NODE), b"a": (_append, 0), b"e": (_appends, 0), b"\x90": (_additems, 0),
    b"s": (_setitem, _PAIR_BYTES), b"u": (_setitems, 0),
    b"c": (_global, _VALUE), b"\x93": (_stack_global, _VALUE),
    b"\x82": (_extension(1), _CALL), b"\x83": (_extension(2), _CALL), b"\x84": (_extension(4), _CALL),
    b"R": (_reduce, _CALL), b"\x81": (_newobj, _CALL), b"\x92": (_newobj_ex, _CALL),
    b"i": (_inst, _CALL), b"o": (_obj, _CALL), b"b": (_build, 0),
    b"P": (_persid, _VALUE), b"Q": (_binpersid, _VALUE), b"\x80": (_proto, 0), b"\x95": (_frame, 0),
}  # fmt: skip

HANDLERS: list[Handler] = [_unknown] * 256
COSTS: list[int] = [0] * 256
for _code, (_handler, _cost) in _OPCODES.items():
    HANDLERS[_code[0]] = _handler
    COSTS[_code[0]] = _cost
COSTS[BINGET] = _VALUE
