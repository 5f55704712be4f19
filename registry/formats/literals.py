"""The pickle opcodes that push a plain value: numbers, texts and bytes."""

import codecs
import re
import struct

from registry.formats.machine_state import BrokenPickleError, Machine, OutOfBytesError
from registry.formats.nodes import BigInt

_INTEGER = re.compile(rb"[+-]?(0|[1-9][0-9]{0,4299})")
_FLOAT = re.compile(rb"[+-]?([0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|inf|nan)")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_u16 = struct.Struct("<H").unpack_from
_i32 = struct.Struct("<i").unpack_from
_u32 = struct.Struct("<I").unpack_from
_u64 = struct.Struct("<Q").unpack_from
_f64 = struct.Struct(">d").unpack_from

# Python reads the modules of rarer codecs when they are first looked up, and a confined reader opens no file.
codecs.lookup("raw-unicode-escape")


def binint1(m: Machine, pos: int) -> int:
    """BININT1: one unsigned byte."""
    m.stack.append(m.data[pos])
    return pos + 1


def binint2(m: Machine, pos: int) -> int:
    """BININT2: two unsigned bytes."""
    m.stack.append(_u16(m.data, pos)[0])
    return pos + 2


def binint(m: Machine, pos: int) -> int:
    """BININT: four signed bytes."""
    m.stack.append(_i32(m.data, pos)[0])
    return pos + 4


def parse_integer(line: bytes) -> int:
    """Return a decimal integer; the forms that only a forger writes (octal, spaces) are refused."""
    if not _INTEGER.fullmatch(line):
        raise BrokenPickleError("an integer is written in a way that no pickler writes")
    return int(line)


def text_int(m: Machine, pos: int) -> int:
    """INT: a decimal line; `00` and `01` are the booleans of protocol 0."""
    line, pos = m.take_line(pos)
    m.stack.append(line == b"01" if line in {b"00", b"01"} else parse_integer(line))
    return pos


def text_long(m: Machine, pos: int) -> int:
    """LONG: a decimal line that ends with `L`."""
    line, pos = m.take_line(pos)
    m.stack.append(parse_integer(line.removesuffix(b"L")))
    return pos


def _push_long(m: Machine, pos: int, length: int) -> int:
    if length < 0:
        raise BrokenPickleError("an integer has a negative length")
    raw = m.take(pos, length)
    m.stack.append(BigInt(raw) if length > m.limits.long_bytes else int.from_bytes(raw, "little", signed=True))
    return pos + length


def long1(m: Machine, pos: int) -> int:
    """LONG1: a length byte, then two's complement."""
    return _push_long(m, pos + 1, m.data[pos])


def long4(m: Machine, pos: int) -> int:
    """LONG4: four length bytes, then two's complement."""
    return _push_long(m, pos + 4, _i32(m.data, pos)[0])


def text_float(m: Machine, pos: int) -> int:
    """FLOAT: a decimal line."""
    line, pos = m.take_line(pos)
    if not _FLOAT.fullmatch(line):
        raise BrokenPickleError("a float is written in a way that no pickler writes")
    m.stack.append(float(line))
    return pos


def binfloat(m: Machine, pos: int) -> int:
    """BINFLOAT: eight bytes, big endian."""
    m.stack.append(_f64(m.data, pos)[0])
    return pos + 8


def decode_text(raw: bytes, encoding: str = "utf-8") -> str:
    """Return `raw` as text, with the lone surrogates that pickles may hold."""
    try:
        return raw.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        raise BrokenPickleError("a text is not valid in its encoding") from None


def _python2_string(raw: bytes) -> str | bytes:
    """Return a Python 2 string as torch reads it (UTF-8), as bytes where that does not work."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _unescape(match: re.Match[bytes]) -> bytes:
    escape: bytes = match[1]
    if escape[:1] == b"x" and len(escape) > 1:
        return bytes([int(escape[1:], 16)])
    if escape[0] in b"01234567":
        return bytes([int(escape, 8) & 0xFF])
    return _ESCAPES.get(escape, escape if escape in b"\\'\"" else b"\\" + escape)


def text_string(m: Machine, pos: int) -> int:
    """STRING: a quoted and escaped line."""
    line, pos = m.take_line(pos)
    line = line.strip()
    if len(line) < 2 or line[0] != line[-1] or line[0] not in b"'\"":  # noqa: PLR2004 - two quotes
        raise BrokenPickleError("a STRING is not quoted")
    m.stack.append(_python2_string(_ESCAPE.sub(_unescape, line[1:-1])))
    return pos


def binstring(m: Machine, pos: int) -> int:
    """BINSTRING: a Python 2 string with four length bytes."""
    length = _i32(m.data, pos)[0]
    if length < 0:
        raise BrokenPickleError("a string has a negative length")
    m.stack.append(_python2_string(m.take(pos + 4, length)))
    return pos + 4 + length


def short_binstring(m: Machine, pos: int) -> int:
    """SHORT_BINSTRING: a Python 2 string with a length byte."""
    start = pos + 1
    end = start + m.data[pos]
    if end > m.size:
        raise OutOfBytesError
    m.stack.append(_python2_string(m.data[start:end]))
    return end


def text_unicode(m: Machine, pos: int) -> int:
    """UNICODE: a line in raw-unicode-escape."""
    line, pos = m.take_line(pos)
    m.stack.append(decode_text(line, "raw-unicode-escape"))
    return pos


def short_binunicode(m: Machine, pos: int) -> int:
    """SHORT_BINUNICODE: UTF-8 with a length byte."""
    start = pos + 1
    end = start + m.data[pos]
    if end > m.size:
        raise OutOfBytesError
    m.stack.append(decode_text(m.data[start:end]))
    return end


def binunicode(m: Machine, pos: int) -> int:
    """BINUNICODE: UTF-8 with four length bytes."""
    start = pos + 4
    end = start + _u32(m.data, pos)[0]
    if end > m.size:
        raise OutOfBytesError
    m.stack.append(decode_text(m.data[start:end]))
    return end


def binunicode8(m: Machine, pos: int) -> int:
    """BINUNICODE8: UTF-8 with eight length bytes."""
    start = pos + 8
    end = start + _u64(m.data, pos)[0]
    if end > m.size:
        raise OutOfBytesError
    m.stack.append(decode_text(m.data[start:end]))
    return end


def short_binbytes(m: Machine, pos: int) -> int:
    """SHORT_BINBYTES: bytes with a length byte."""
    start = pos + 1
    end = start + m.data[pos]
    if end > m.size:
        raise OutOfBytesError
    m.stack.append(m.data[start:end])
    return end


def binbytes(m: Machine, pos: int) -> int:
    """BINBYTES: bytes with four length bytes."""
    start = pos + 4
    end = start + _u32(m.data, pos)[0]
    if end > m.size:
        raise OutOfBytesError
    m.stack.append(m.data[start:end])
    return end


def binbytes8(m: Machine, pos: int) -> int:
    """BINBYTES8 and BYTEARRAY8: bytes with eight length bytes."""
    start = pos + 8
    end = start + _u64(m.data, pos)[0]
    if end > m.size:
        raise OutOfBytesError
    m.stack.append(m.data[start:end])
    return end


def buffer(_m: Machine, _pos: int) -> int:
    """NEXT_BUFFER and READONLY_BUFFER: bytes that travel outside the pickle."""
    raise BrokenPickleError("it needs buffers from outside the file")
