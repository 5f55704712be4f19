"""The pickle opcodes of the stack, the memo and framing."""

import struct

from registry.formats.literals import parse_integer
from registry.formats.machine_state import BrokenPickleError, Empty, Machine

unpack_u32 = struct.Struct("<I").unpack_from
HIGHEST_PROTOCOL = 5
_u64 = struct.Struct("<Q").unpack_from


def mark(m: Machine, pos: int) -> int:
    """MARK: the values so far wait until the mark is popped."""
    if len(m.marks) >= m.limits.mark_depth:
        raise BrokenPickleError(f"more than {m.limits.mark_depth} MARKs are open")
    m.marks.append(m.stack)
    m.stack = []
    return pos


def pop(m: Machine, pos: int) -> int:
    """POP: forget the newest value, or an empty mark."""
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()
    return pos


def pop_mark(m: Machine, pos: int) -> int:
    """POP_MARK: forget the values since the last MARK."""
    m.pop_mark()
    return pos


def dup(m: Machine, pos: int) -> int:
    """DUP: the newest value once more."""
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


def put(m: Machine, pos: int) -> int:
    """PUT: a decimal line."""
    line, pos = m.take_line(pos)
    _store(m, parse_integer(line))
    return pos


def binput(m: Machine, pos: int) -> int:
    """BINPUT: one byte."""
    _store(m, m.data[pos])
    return pos + 1


def long_binput(m: Machine, pos: int) -> int:
    """LONG_BINPUT: four bytes."""
    _store(m, unpack_u32(m.data, pos)[0])
    return pos + 4


def memoize(m: Machine, pos: int) -> int:
    """MEMOIZE: the next free slot."""
    _store(m, len(m.memo) - m.memo_holes)
    return pos


def _fetch(m: Machine, index: int) -> None:
    value = m.memo[index] if 0 <= index < len(m.memo) else Empty
    if value is Empty:
        m.refuse_memo()
    m.stack.append(value)


def get(m: Machine, pos: int) -> int:
    """GET: a decimal line."""
    line, pos = m.take_line(pos)
    _fetch(m, parse_integer(line))
    return pos


def long_binget(m: Machine, pos: int) -> int:
    """LONG_BINGET: four bytes."""
    _fetch(m, unpack_u32(m.data, pos)[0])
    return pos + 4


def proto(m: Machine, pos: int) -> int:
    """PROTO: the protocol, at the start only."""
    if pos != m.start + 1:
        raise BrokenPickleError("its PROTO is not at the start")
    if m.data[pos] > HIGHEST_PROTOCOL:
        raise BrokenPickleError("its protocol is unknown")
    return pos + 1


def frame(m: Machine, pos: int) -> int:
    """FRAME: the length of what must hold whole opcodes."""
    pos += 8
    m.enter_frame(pos, _u64(m.data, pos - 8)[0])
    return pos


def unknown(_m: Machine, _pos: int) -> int:
    """What is no opcode."""
    raise BrokenPickleError("an opcode is unknown")
