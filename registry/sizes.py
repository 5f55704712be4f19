"""Sizes in bytes, and shares of them, as people read them."""

import math
import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B?)?", re.IGNORECASE)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def format_size(size_bytes: int) -> str:
    """Return a size for people: `97.8 MiB`."""
    size, unit = float(size_bytes), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"


def format_share(part: int, whole: int) -> str:
    """Return a share for people, rounded down: `97.4 %`. What is not all is never called 100 %; all of nothing is."""
    return f"{math.floor(part / whole * 1000) / 10:g} %" if whole else "100 %"


def parse_size(text: str) -> int:
    """Return the bytes that a person means by `20GiB`, `1.5 TiB`, `500M` or `4096`; all units are powers of 1024.

    Raises:
        ValueError: it is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size: write it like 20GiB.")
    power = "BKMGT".index((found[2] or "B")[0].upper())
    return int(float(found[1]) * _STEP**power)
