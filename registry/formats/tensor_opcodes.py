"""The opcodes that torch writes for most tensors, run at once: one by one they are half of the time of reading.

Nothing is decided here. Where the opcodes are not exactly these, or one of them would meet an error or a limit,
nothing is done, and they run one by one.
"""

import re
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from registry.formats.machine_state import Empty, Machine
from registry.formats.nodes import TupleNode
from registry.formats.opcodes import COSTS

_GET = rb"h(.)"
_PUT = rb"r(....)"
_INTEGER = rb"(?:K.|M..|J...[\x00-\x7f])"
_SIZES = rb"(%b\x85|%b{2}\x86|%b{3}\x87|\(%b{4,64}t)" % ((_INTEGER,) * 4)
_STORAGE = rb"\(" + _GET + _GET + rb"X(.)\0\0\0([0-9]{1,24})" + _PUT + _GET + rb"(%b)t" % _INTEGER + _PUT + b"Q"
_VIEW = rb"(%b)" % _INTEGER + _SIZES + _PUT + _SIZES + _PUT + rb"([\x88\x89])"
_HOOKS = _GET + rb"\)R" + _PUT
_ARGUMENTS = re.compile(_STORAGE + _VIEW + _HOOKS + b"t" + _PUT + b"R" + _PUT, re.DOTALL)
"""What follows the MARK before the arguments of `_rebuild_tensor_v2`, to what memoizes the tensor."""
_ALWAYS = b"(hhXrhtrQrr\x89h)RrtrRr"
"""The opcodes of that but integers and what makes the tuples of size and stride."""
_ALWAYS_COST = sum(COSTS[code] for code in _ALWAYS)
_PUTS = _ALWAYS.count(b"r")
_FIRST_LONG_INDEX = 256
_pack_indices = Struct(f"<{_PUTS}I").pack
_split_sizes = re.compile(rb"K.|M..|J....|[(t\x85-\x87]", re.DOTALL).findall


class Step(NamedTuple):
    """What was run: the position after it, the number of opcodes, and what they cost in bytes."""

    end: int
    opcodes: int
    cost: int


class _Sizes(NamedTuple):
    values: tuple[int, ...]
    opcodes: int
    cost: int


def run_tensor(m: Machine, pos: int, opcodes: int, allowance: int) -> Step | None:
    """Run what follows a MARK up to the end of a tensor, the MARK as well; None when all are to run one by one.

    Args:
        m: the machine, which has settled all charges.
        pos: the position after the MARK.
        opcodes: how many may run after the MARK.
        allowance: the bytes that they may cost.

    Raises:
        MalformedArtifactError: the persistent id does not belong.
    """
    found = _ARGUMENTS.match(m.data, pos)
    if found is None or found.end() > m.barrier or not m.stack or len(m.marks) + 2 > m.limits.mark_depth:
        return None
    memo, next_index = m.memo, len(m.memo)
    word, kind, length, key, put, place, numel, *rest = found.groups()
    put2, offset, size, put3, stride, put4, gradient, ordered, *puts = rest
    indices = _pack_indices(*range(next_index, next_index + _PUTS))
    if next_index < _FIRST_LONG_INDEX or b"".join((put, put2, put3, put4, *puts)) != indices or length[0] != len(key):
        return None
    shape, strides = _read_sizes(size), _read_sizes(stride)
    count = len(_ALWAYS) + 2 + shape.opcodes + strides.opcodes
    cost = _ALWAYS_COST + COSTS[numel[0]] + COSTS[offset[0]] + shape.cost + strides.cost
    storage_word, storage_class, location, ordered_dict = memo[word[0]], memo[kind[0]], memo[place[0]], memo[ordered[0]]
    if Empty in (storage_word, storage_class, location, ordered_dict) or m.persistent_load is None:
        return None
    if count > opcodes or cost > allowance:
        return None
    text = key.decode()
    identity = TupleNode((storage_word, storage_class, text, location, _operand(numel)))
    storage = m.persistent_load(identity)
    size_node, stride_node = TupleNode(shape.values), TupleNode(strides.values)
    hooks = m.call(ordered_dict, (), construct=False)
    view = (storage, _operand(offset), size_node, stride_node, gradient == b"\x88", hooks)
    tensor = m.stack[-1] = m.call(m.stack[-1], view, construct=False)
    memo += (text, identity, size_node, stride_node, hooks, TupleNode(view), tensor)
    return Step(found.end(), count, cost)


def _operand(opcode: bytes) -> int:
    return int.from_bytes(opcode[1:], "little")


@lru_cache(maxsize=1024)
def _read_sizes(opcodes: bytes) -> _Sizes:
    """Return what the opcodes of a tuple of integers say; models repeat them."""
    pieces: list[bytes] = _split_sizes(opcodes)
    values = tuple([_operand(each) for each in pieces if len(each) > 1])
    return _Sizes(values, len(pieces), sum([COSTS[each[0]] for each in pieces]))
