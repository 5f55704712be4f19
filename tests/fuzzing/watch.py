"""What the interpreter itself reports while the reader is at work: nothing is opened, imported, started or executed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_HARMLESS = frozenset({"builtins.id", "sys._getframe", "object.__getattr__", "array.__new__"})
"""Events of reading memory; everything else that Python audits is more than a reader does."""


class Watch:
    """An audit hook, of which a process needs one: hooks stay until it ends."""

    def __init__(self) -> None:
        self._armed = False
        self._events: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._armed and event not in _HARMLESS:
            self._events.append(f"{event}{arguments!r:.200}")

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """Yield a list of what happens until the block ends."""
        self._events = []
        self._armed = True
        try:
            yield self._events
        finally:
            self._armed = False
