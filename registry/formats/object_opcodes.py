"""The pickle opcodes of classes, functions, instances and persistent ids: what everything else is about."""

import struct

from registry.formats.literals import decode_text
from registry.formats.machine_state import BrokenPickleError, Handler, Machine
from registry.formats.nodes import Call, DictNode, Global, Node, TupleNode

unpack_u32 = struct.Struct("<I").unpack_from
_u64 = struct.Struct("<Q").unpack_from


def text_global(m: Machine, pos: int) -> int:
    """GLOBAL: module and name, a line each."""
    module, pos = m.take_line(pos)
    name, pos = m.take_line(pos)
    m.stack.append(m.mention(decode_text(module), decode_text(name)))
    return pos


def stack_global(m: Machine, pos: int) -> int:
    """STACK_GLOBAL: module and name from the stack."""
    name = m.stack.pop()
    module = m.stack.pop()
    if type(name) is str and type(module) is str:
        m.stack.append(m.mention(module, name))
        return pos
    m.danger("It computes the name of a class or function instead of spelling it out.")
    m.stack.append(Call(Global("<computed>", "<computed>"), ()))
    return pos


def extension(width: int) -> Handler:
    """EXT1, EXT2 and EXT4: a number of copyreg's extension registry."""

    def push(m: Machine, pos: int) -> int:
        code = int.from_bytes(m.take(pos, width), "little")
        m.danger("It names a class or function by a number of copyreg's extension registry.")
        registry = m.mention("copyreg", "_extension_registry")
        m.stack.append(Call(registry, (code,)))
        return pos + width

    return push


def _arguments(m: Machine, node: Node) -> tuple[Node, ...]:
    if type(node) is TupleNode:
        return node.items
    if type(node) is Call:
        m.danger("It computes the arguments of a call.")
        return (node,)
    raise BrokenPickleError("the arguments of a call are no tuple")


def reduce(m: Machine, pos: int) -> int:
    """REDUCE: call a function."""
    arguments = _arguments(m, m.stack.pop())
    m.stack[-1] = m.call(m.stack[-1], arguments, construct=False)
    return pos


def newobj(m: Machine, pos: int) -> int:
    """NEWOBJ: make an instance."""
    arguments = _arguments(m, m.stack.pop())
    m.stack[-1] = m.call(m.stack[-1], arguments, construct=True)
    return pos


def newobj_ex(m: Machine, pos: int) -> int:
    """NEWOBJ_EX: make an instance, with keyword arguments."""
    keywords = m.stack.pop()
    arguments = _arguments(m, m.stack.pop())
    if type(keywords) is not DictNode:
        raise BrokenPickleError("the keyword arguments of a call are no dict")
    node = m.call(m.stack[-1], arguments, construct=True)
    node.keywords = list(keywords.pairs)
    m.stack[-1] = node
    return pos


def inst(m: Machine, pos: int) -> int:
    """INST: call a class of protocol 0, named by two lines."""
    module, pos = m.take_line(pos)
    name, pos = m.take_line(pos)
    function = m.mention(decode_text(module, "ascii"), decode_text(name, "ascii"))
    arguments = m.pop_mark()
    m.stack.append(m.call(function, tuple(arguments), construct=False))
    return pos


def obj(m: Machine, pos: int) -> int:
    """OBJ: call a class of protocol 1, the first value since the last MARK."""
    function, *arguments = m.pop_mark() or _underflow()
    m.stack.append(m.call(function, tuple(arguments), construct=False))
    return pos


def _underflow() -> list[Node]:
    raise IndexError


def build(m: Machine, pos: int) -> int:
    """BUILD: set the state of an instance."""
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


def _push_persistent(m: Machine, identity: Node) -> None:
    if m.persistent_load is None:
        raise BrokenPickleError("it has a persistent id where none belongs")
    m.stack.append(m.persistent_load(identity))


def persid(m: Machine, pos: int) -> int:
    """PERSID: a persistent id that is a line."""
    line, pos = m.take_line(pos)
    _push_persistent(m, decode_text(line, "ascii"))
    return pos


def binpersid(m: Machine, pos: int) -> int:
    """BINPERSID: a persistent id from the stack."""
    _push_persistent(m, m.stack.pop())
    return pos
