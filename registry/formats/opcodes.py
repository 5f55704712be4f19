"""The pickle opcodes: what each does to the machine, and what it costs, as `pickletools` describes them."""

from registry.formats import container_opcodes as containers
from registry.formats import literals
from registry.formats import object_opcodes as objects
from registry.formats import stack_opcodes as stack
from registry.formats.machine_state import Handler, Machine
from registry.formats.nodes import Node

STOP = 0x2E
BINGET = 0x68
LONG_BINPUT = 0x72
ONE_BYTE_OPERANDS = frozenset(b"KUChq\x80\x8a\x8c")
"""Opcodes that read one byte without asking whether there is one."""


def _push(value: Node) -> Handler:
    def push(m: Machine, pos: int) -> int:
        m.stack.append(value)
        return pos

    return push


_VALUE, _SMALL, _STRING, _NODE, _CALL = 24, 40, 72, 112, 192
"""Estimated bytes of what an opcode makes, its place on the stack included."""

_OPCODES: dict[bytes, tuple[Handler, int]] = {
    b"N": (_push(value=None), _VALUE),
    b"\x88": (_push(value=True), _VALUE),
    b"\x89": (_push(value=False), _VALUE),
    b"K": (literals.binint1, _VALUE),
    b"M": (literals.binint2, _SMALL),
    b"J": (literals.binint, _SMALL),
    b"I": (literals.text_int, _STRING),
    b"L": (literals.text_long, _STRING),
    b"\x8a": (literals.long1, _SMALL),
    b"\x8b": (literals.long4, _SMALL),
    b"F": (literals.text_float, _STRING),
    b"G": (literals.binfloat, _SMALL),
    b"S": (literals.text_string, _NODE),
    b"T": (literals.binstring, _STRING),
    b"U": (literals.short_binstring, _STRING),
    b"V": (literals.text_unicode, _NODE),
    b"X": (literals.binunicode, _STRING),
    b"\x8c": (literals.short_binunicode, _STRING),
    b"\x8d": (literals.binunicode8, _STRING),
    b"B": (literals.binbytes, _STRING),
    b"C": (literals.short_binbytes, _STRING),
    b"\x8e": (literals.binbytes8, _STRING),
    b"\x96": (literals.binbytes8, _STRING),
    b"\x97": (literals.buffer, 0),
    b"\x98": (literals.buffer, 0),
    b"(": (stack.mark, _STRING),
    b"0": (stack.pop, 0),
    b"1": (stack.pop_mark, 0),
    b"2": (stack.dup, _VALUE),
    b"p": (stack.put, _STRING),
    b"q": (stack.binput, _VALUE),
    b"r": (stack.long_binput, _VALUE),
    b"\x94": (stack.memoize, _VALUE),
    b"g": (stack.get, _STRING),
    b"j": (stack.long_binget, _VALUE),
    b"]": (containers.empty_list, _NODE),
    b"}": (containers.empty_dict, _NODE),
    b"\x8f": (containers.empty_set, _NODE),
    b")": (containers.empty_tuple, _STRING),
    b"\x85": (containers.tuple1, _NODE),
    b"\x86": (containers.tuple_of(2), _NODE),
    b"\x87": (containers.tuple_of(3), _NODE),
    b"t": (containers.tuple_of_mark, _NODE),
    b"l": (containers.list_of_mark, _NODE),
    b"d": (containers.dict_of_mark, _NODE),
    b"\x91": (containers.frozenset_of_mark, _NODE),
    b"a": (containers.append, 0),
    b"e": (containers.appends, 0),
    b"\x90": (containers.additems, 0),
    b"s": (containers.setitem, containers.PAIR_BYTES),
    b"u": (containers.setitems, 0),
    b"c": (objects.text_global, _VALUE),
    b"\x93": (objects.stack_global, _VALUE),
    b"\x82": (objects.extension(1), _CALL),
    b"\x83": (objects.extension(2), _CALL),
    b"\x84": (objects.extension(4), _CALL),
    b"R": (objects.reduce, _CALL),
    b"\x81": (objects.newobj, _CALL),
    b"\x92": (objects.newobj_ex, _CALL),
    b"i": (objects.inst, _CALL),
    b"o": (objects.obj, _CALL),
    b"b": (objects.build, 0),
    b"P": (objects.persid, _VALUE),
    b"Q": (objects.binpersid, _VALUE),
    b"\x80": (stack.proto, 0),
    b"\x95": (stack.frame, 0),
}

HANDLERS: list[Handler] = [stack.unknown] * 256
COSTS: list[int] = [0] * 256
for _code, (_handler, _cost) in _OPCODES.items():
    HANDLERS[_code[0]] = _handler
    COSTS[_code[0]] = _cost
COSTS[BINGET] = _VALUE
