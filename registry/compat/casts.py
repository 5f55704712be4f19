"""What a conversion from one dtype to another does to values.

torch's `copy_` converts nearly everything without a word, also floats to integers. The classes are ours; the sets of
representable values are those of IEEE 754, bfloat16 and the OCP 8-bit formats that torch implements.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

CastClass: TypeAlias = Literal["none", "lossless", "rounding", "refused"]


@dataclass(frozen=True, slots=True)
class _Float:
    """Bits of precision with the hidden one, and the exponents of the smallest subnormal and the largest value."""

    mantissa: int
    lowest: int
    highest: int


_FLOATS = {
    "float64": _Float(53, -1074, 1023),
    "float32": _Float(24, -149, 127),
    "bfloat16": _Float(8, -133, 127),
    "float16": _Float(11, -24, 15),
    "float8_e4m3fn": _Float(4, -9, 8),
    "float8_e4m3fnuz": _Float(4, -10, 7),
    "float8_e5m2": _Float(3, -16, 15),
    "float8_e5m2fnuz": _Float(3, -17, 15),
    "float8_e8m0fnu": _Float(1, -127, 127),
}
_COMPLEX = {"complex128": "float64", "complex64": "float32", "complex32": "float16"}
# Bits of magnitude, and whether there is a sign.
_INTEGERS = {
    "bool": (1, 0),
    "uint8": (8, 0),
    "uint16": (16, 0),
    "uint32": (32, 0),
    "uint64": (64, 0),
    "int8": (7, 1),
    "int16": (15, 1),
    "int32": (31, 1),
    "int64": (63, 1),
}


def classify_cast(source: str, target: str) -> CastClass:
    """Return what converting values of dtype `source` to dtype `target` does.

    `lossless`: every value stays. `rounding`: values may change by rounding or overflow to infinity. `refused`: the
    kind of number changes (float to integer, complex to real), an integer narrows, or a dtype is not known.
    """
    if source == target:
        return "none"
    if source in _COMPLEX and target not in _COMPLEX:
        return "refused"
    have, want = _COMPLEX.get(source, source), _COMPLEX.get(target, target)
    if have in _FLOATS and want in _FLOATS:
        return _classify_float(have, want)
    if have in _INTEGERS and want in _INTEGERS:
        return _classify_integer(have, want)
    if have in _INTEGERS and want in _FLOATS:
        bits, floats = _INTEGERS[have][0], _FLOATS[want]
        return "lossless" if bits <= floats.mantissa and bits <= floats.highest + 1 else "rounding"
    return "refused"


def _classify_float(source: str, target: str) -> CastClass:
    if source == target:
        return "lossless"
    have, want = _FLOATS[source], _FLOATS[target]
    fits = want.mantissa >= have.mantissa and want.lowest <= have.lowest and want.highest >= have.highest
    return "lossless" if fits else "rounding"


def _classify_integer(source: str, target: str) -> CastClass:
    have_bits, have_sign = _INTEGERS[source]
    want_bits, want_sign = _INTEGERS[target]
    return "lossless" if want_bits >= have_bits and want_sign >= have_sign else "refused"
