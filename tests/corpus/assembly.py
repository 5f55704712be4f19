"""Pickles written opcode by opcode, as no pickler would write them."""

import pickle
import struct

PROTO_2 = b"\x80\x02"
PROTO_4 = b"\x80\x04"
STOP = b"."


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def short_text(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def named(pair: str) -> bytes:
    """GLOBAL of `module:name`; what has a dot in its name is spelled by STACK_GLOBAL, as protocol 4 needs it."""
    module, name = pair.split(":")
    if "." in name:
        return text(module) + text(name) + b"\x93"
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def value(plain: object) -> bytes:  # noqa: PLR0911 - one return a type
    """A plain value: None, truth values, small integers, texts, and tuples, lists and dicts of them."""
    if plain is None:
        return b"N"
    if isinstance(plain, bool):
        return b"\x88" if plain else b"\x89"
    if isinstance(plain, int):
        return pickle.dumps(plain, 2)[2:-1]
    if isinstance(plain, str):
        return text(plain)
    if isinstance(plain, bytes):  # opcodes already
        return plain
    if isinstance(plain, tuple):
        return b"(" + b"".join(map(value, plain)) + b"t"
    if isinstance(plain, list):
        return b"](" + b"".join(map(value, plain)) + b"e"
    if isinstance(plain, dict):
        return b"}(" + b"".join(value(key) + value(each) for key, each in plain.items()) + b"u"
    raise TypeError(plain)


def called(pair: str, *arguments: object) -> bytes:
    """GLOBAL, arguments, REDUCE."""
    return named(pair) + value(arguments) + b"R"


def storage(key: str = "0", kind: str = "torch:FloatStorage", numel: int = 4, *, legacy: bool = False) -> bytes:
    """The persistent id of a storage, and BINPERSID."""
    items: tuple[object, ...] = ("storage", named(kind), key, "cpu", numel)
    return value((*items, None) if legacy else items) + b"Q"


def tensor(of: bytes | None = None, shape: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,)) -> bytes:
    """A tensor that views the storage."""
    hooks = called("collections:OrderedDict")
    return called("torch._utils:_rebuild_tensor_v2", of or storage(), 0, shape, stride, False, hooks)  # noqa: FBT003 - by position, as torch writes it


def state_dict(extra: bytes = b"", *, legacy: bool = False) -> bytes:
    """A dict with one tensor `w` of four floats, and what `extra` sets besides (a key and a value)."""
    return b"}(" + text("w") + tensor(storage(legacy=legacy)) + extra + b"u"
