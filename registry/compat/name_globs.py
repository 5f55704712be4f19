"""Globs over names of tensors: which ones a caller named, and the shortest that name a list of them."""

import fnmatch
import glob
import re
from collections.abc import Collection, Iterable

from registry.errors import InvalidRequestError

_SHOWN = 5


class NameGlobs:
    """The globs of one argument (`fc.*`), as of `fnmatch`; every one of them has to match a name.

    Args:
        argument: what the caller knows it as (`allow_missing`).
        globs: what the caller gave.
        names: all names that they are over.
        kind: what those names are, for the error.

    Raises:
        InvalidRequestError: one matches no name: it was mistyped.
    """

    def __init__(self, argument: str, globs: Iterable[str], names: Collection[str], kind: str) -> None:
        self._found: set[str] = set()
        for each in globs:
            matches = re.compile(fnmatch.translate(each)).match
            found = {name for name in names if matches(name)}
            if not found:
                shown = ", ".join(sorted(names)[:_SHOWN])
                raise InvalidRequestError(f"{argument}={each!r} matches no name of the {kind}. Names are: {shown}, …")
            self._found |= found

    def __contains__(self, name: str) -> bool:
        return name in self._found


def shorten(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the fewest globs of whole modules that match all of `names` and none of `others`."""
    kept: set[str] = {""}
    for name in others:
        parent = name.rpartition(".")[0]
        while parent and parent not in kept:
            kept.add(parent)
            parent = parent.rpartition(".")[0]
    globs: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        modules = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        free = next((module for module in modules if module not in kept), None)
        globs[glob.escape(name) if free is None else f"{glob.escape(free)}.*"] = None
    return list(globs)
