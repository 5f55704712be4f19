"""Pickles where none should be: under another name, in a broken archive, in the bytes of another format.

Any bytes run a little way as a pickle, and text mentions things when it does. So what counts is a name that could be
imported: a module and a function that do harm, spelled out as Python spells them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from registry.formats.allow_list import is_dangerous
from registry.formats.limits import Limits
from registry.formats.machine import Probe, probe

LOOK_BYTES = 512
"""What tells most data from a pickle."""

_GROWTH = 8
_PROTO = 0x80
_HIGHEST_PROTOCOL = 5
IMPORTABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
"""How Python spells the names of modules, classes and functions."""
EXTENSION = "copyreg._extension_registry"
"""What a class named by a number comes from; random bytes name many."""


def says_pickle(start: bytes) -> bool:
    """Return whether bytes begin as pickles of protocol 0 to 5 do that say so."""
    return len(start) > 1 and start[0] == _PROTO and start[1] <= _HIGHEST_PROTOCOL


@dataclass(slots=True)
class Masked:
    """What was found.

    Attributes:
        is_pickle: whether the bytes say that they are a pickle, or run to a STOP past a class or function.
        harmful: the names that do harm, as Python spells names.
        tricks: sentences on what no pickler writes; only of what is a pickle.
        exhausted: whether the bytes run as a pickle farther than anybody looked.
    """

    is_pickle: bool
    harmful: list[str]
    tricks: list[str]
    exhausted: bool = False


class Prober:
    """Looks for pickles in the parts of one file, within one budget of bytes for all of them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.probed_bytes

    def look(self, start: bytes, size: int, read: Callable[[slice], bytes]) -> Masked:
        """Return what bytes are as a pickle; they are read on as long as they run as one.

        Args:
            start: the first bytes.
            size: how many there are.
            read: returns a slice of the bytes, which begins at their first.
        """
        found = probe(start, self._limits, size)
        while found.outcome == "hungry" and self._left > 0:
            length = min(_GROWTH * max(len(start), LOOK_BYTES), size, self._left)
            self._left -= length
            start = read(slice(length))
            found = probe(start, self._limits, size)
            if len(start) < length:
                break
        is_pickle = says_pickle(start) or (found.outcome == "ended" and bool(found.mentioned or found.dangers))
        tricks = found.dangers if is_pickle else []
        return Masked(is_pickle, _harmful_names(found), tricks, found.outcome == "hungry")


def _harmful_names(found: Probe) -> list[str]:
    return [
        str(each)
        for each in found.mentioned
        if is_dangerous(each.module, each.name)
        and str(each) != EXTENSION
        and IMPORTABLE.fullmatch(each.module)
        and IMPORTABLE.fullmatch(each.name)
    ]
