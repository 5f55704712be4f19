"""Pickles changed opcode by opcode: taken apart, changed, and put together again."""

import struct
from collections.abc import Callable
from random import Random

from corpus.assembly import text

from fuzzing.pickle_pieces import ACTIONS, GLOBALS, NEUTRAL, NUMBERS, PAYLOADS, PUSHES, SAME_WIDTH

_FIXED = {
    **dict.fromkeys(b"Khq\x80\x82", 1), **dict.fromkeys(b"M\x83", 2), **dict.fromkeys(b"Jjr\x84", 4),
    **dict.fromkeys(b"G\x95", 8),
}  # fmt: skip
_PREFIXED = {**dict.fromkeys(b"UC\x8a\x8c", 1), **dict.fromkeys(b"TXB\x8b", 4), **dict.fromkeys(b"\x8d\x8e\x96", 8)}
_LINES = {**dict.fromkeys(b"FILSVPgp", 1), **dict.fromkeys(b"ci", 2)}
_STOP = 0x2E

_TRUTHS = {b"\x88": b"\x89", b"\x89": b"\x88"}
_CHANGES = (1, 1, 1, 1, 1, 2, 3)

Ops = list[bytes]
"""A pickle's opcodes, each with its operand."""


def parse(data: bytes, start: int = 0) -> tuple[Ops, int] | None:
    """Return the opcodes of the pickle that starts at `start`, and where it ends; None when it is none."""
    ops: Ops = []
    at = start
    while at < len(data):
        code, begin = data[at], at
        at += 1
        if code in _FIXED:
            at += _FIXED[code]
        elif code in _PREFIXED:
            width = _PREFIXED[code]
            at += width + int.from_bytes(data[at : at + width], "little")
        elif code in _LINES:
            for _ in range(_LINES[code]):
                at = data.find(b"\n", at) + 1
                if not at:
                    return None
        if at > len(data):
            return None
        ops.append(data[begin:at])
        if code == _STOP:
            return ops, at
    return None


def mutate(rng: Random, ops: Ops) -> Ops:
    """Return the opcodes with one change, now and then with a few."""
    changed = list(ops)
    for _ in range(rng.choice(_CHANGES)):
        rng.choice(_MUTATIONS)(rng, changed)
    return changed


def _at(rng: Random, ops: Ops) -> int:
    """Return a position after PROTO and not after STOP."""
    return rng.randrange(min(1, len(ops) - 1), len(ops)) if ops else 0


def _delete(rng: Random, ops: Ops) -> None:
    at = _at(rng, ops)
    del ops[at : at + rng.choice((1, 1, 1, 2, 3, 8))]


def _duplicate(rng: Random, ops: Ops) -> None:
    at = _at(rng, ops)
    piece = ops[at : at + rng.choice((1, 1, 2, 3, 8, 20))]
    to = _at(rng, ops) if rng.random() < 0.5 else at
    ops[to:to] = piece


def _swap(rng: Random, ops: Ops) -> None:
    one, other = _at(rng, ops), _at(rng, ops)
    if ops:
        ops[one], ops[other] = ops[other], ops[one]


def _insert(rng: Random, ops: Ops) -> None:
    ops.insert(_at(rng, ops), _any_op(rng))


def _replace(rng: Random, ops: Ops) -> None:
    if ops:
        ops[_at(rng, ops)] = _any_op(rng)


def _any_op(rng: Random) -> bytes:
    return rng.choice(rng.choice((PUSHES, ACTIONS, GLOBALS)))


def _insert_neutral(rng: Random, ops: Ops) -> None:
    ops.insert(_at(rng, ops), rng.choice(NEUTRAL))


def insert_payload(rng: Random, ops: Ops) -> None:
    """Put what would do harm somewhere between the opcodes; the stack stays as it was."""
    ops.insert(_at(rng, ops), rng.choice(PAYLOADS))


def _push_and_pop(rng: Random, ops: Ops) -> None:
    ops.insert(_at(rng, ops), rng.choice((*GLOBALS, *PUSHES)) + b"0")


def _change_operand(rng: Random, ops: Ops) -> None:
    """Change one operand, of a kind that most pickles have."""
    chosen = [at for at, op in enumerate(ops) if len(op) > 1 and op[0] != 0x80]
    if chosen:
        at = rng.choice(chosen)
        ops[at] = _other_operand(rng, ops[at])


def _change_number(rng: Random, ops: Ops) -> None:
    chosen = [at for at, op in enumerate(ops) if op[:1] in {b"K", b"M", b"J", b"\x8a"}]
    if chosen:
        at = rng.choice(chosen)
        ops[at] = _other_number(rng, ops[at])


def _change_global(rng: Random, ops: Ops) -> None:
    chosen = [at for at, op in enumerate(ops) if op[:1] == b"c"]
    if chosen:
        ops[rng.choice(chosen)] = rng.choice(GLOBALS)


def _change_truth(rng: Random, ops: Ops) -> None:
    """Turn one truth value, or all, into the other."""
    chosen = [at for at, op in enumerate(ops) if op in _TRUTHS]
    if chosen:
        for at in chosen if rng.random() < 0.3 else [rng.choice(chosen)]:
            ops[at] = _TRUTHS[ops[at]]


def _change_type(rng: Random, ops: Ops) -> None:
    """Say of some bytes that they are other numbers of the same width."""
    chosen = [at for at, op in enumerate(ops) if op in SAME_WIDTH]
    if chosen:
        at = rng.choice(chosen)
        ops[at] = rng.choice(SAME_WIDTH[ops[at]])


def _change_memo(rng: Random, ops: Ops) -> None:
    chosen = [at for at, op in enumerate(ops) if op[0] in b"hqjr"]
    if chosen:
        at = rng.choice(chosen)
        op = ops[at]
        index = int.from_bytes(op[1:], "little") + rng.choice((-2, -1, 1, 2, 5))
        ops[at] = op[:1] + (index % 256 ** (len(op) - 1)).to_bytes(len(op) - 1, "little")


def _other_operand(rng: Random, op: bytes) -> bytes:
    code = op[:1]
    if code in {b"K", b"M", b"J", b"\x8a"}:
        return _other_number(rng, op)
    if code == b"c":
        return rng.choice(GLOBALS)
    if code in {b"X", b"\x8c", b"U"}:
        return rng.choice(
            (text("w"), text("0"), text("1"), text("cuda:0"), text(""), text("é" * 3), text("storage"), text("module"))
        )
    if code[0] in _LINES:
        return op
    body = bytearray(op[1:])
    body[rng.randrange(len(body))] = rng.choice((0, 1, 2, 127, 128, 255, rng.randrange(256)))
    return code + bytes(body)


def _other_number(rng: Random, op: bytes) -> bytes:
    known = {b"K": 1, b"M": 2, b"J": 4}.get(op[:1])
    old = int.from_bytes(op[1:] if known else op[2:], "little", signed=known != 1)
    near = (old - 1, old + 1, 2 * old, old // 2, -old)
    return number(rng.choice(near) if rng.random() < 0.6 else rng.choice(NUMBERS))


def number(value: int) -> bytes:
    """Return the opcode that pushes an integer, as a pickler writes it."""
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _nest(rng: Random, ops: Ops) -> None:
    """Put a deep nest somewhere: of tuples, as a key, of marks."""
    depth = rng.choice((3, 3, 70, 70, 1500))
    deep = b"N" + b"\x85" * depth
    ops.insert(
        _at(rng, ops),
        rng.choice(
            (deep + b"0", b"}" + deep + b"Ns0", b"(" * depth + b"1" * depth, b"]" * depth + b"a" * (depth - 1) + b"0")
        ),
    )


def _truncate(rng: Random, ops: Ops) -> None:
    del ops[_at(rng, ops) :]
    if rng.random() < 0.5:
        ops.append(b".")


def _append(rng: Random, ops: Ops) -> None:
    ops.append(rng.choice((b".", b"N.", b"\0", b"\x80\2N.", rng.choice(PAYLOADS))))


def _respell(rng: Random, ops: Ops) -> None:
    """Say the same by another opcode."""
    at = _at(rng, ops)
    if ops:
        ops[at] = _respelled(rng, ops[at])


def _respell_many(rng: Random, ops: Ops) -> None:
    """Say the same by other opcodes, in many places at once."""
    share = rng.choice((0.1, 0.5, 1.0))
    ops[:] = [_respelled(rng, op) if rng.random() < share else op for op in ops]


def _respelled(rng: Random, op: bytes) -> bytes:
    code = op[:1]
    if code == b"c" and op.count(b"\n") == 2 and op.endswith(b"\n"):
        module, name = op[1:-1].decode("utf-8", "replace").split("\n")
        looked_up = text(module) + text(name) + b"\x93"
        return rng.choice((looked_up, looked_up, b"(i" + op[1:] + b"0" + op))
    if code == b"X" and len(op) < 256 and op[2:5] == bytes(3) and op[1] == len(op) - 5:
        return b"\x8c" + op[1:2] + op[5:]
    if len(op) != 2 or code not in _SPELLINGS:
        return op
    return rng.choice(_SPELLINGS[code])(op)


_SPELLINGS: dict[bytes, tuple[Callable[[bytes], bytes], ...]] = {
    b"q": (lambda op: b"r" + op[1:] + bytes(3), lambda op: b"p%d\n" % op[1]),
    b"h": (lambda op: b"j" + op[1:] + bytes(3), lambda op: b"g%d\n" % op[1]),
    b"K": (lambda op: b"I%d\n" % op[1], lambda op: b"J" + op[1:] + bytes(3), lambda op: b"\x8a\2" + op[1:] + b"\0"),
}


_MUTATIONS: tuple[Callable[[Random, Ops], None], ...] = (
    _delete, _duplicate, _swap, _insert, _replace, _insert_neutral, insert_payload, _push_and_pop, _change_operand,
    _change_number, _change_number, _change_number, _change_global, _change_truth, _change_type, _change_memo,
    _truncate, _append, _respell, _respell_many, _respell_many, _nest,
)  # fmt: skip
