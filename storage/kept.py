"""What this process keeps because it was asked for lately, as far as there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Kept(Generic[KeyT, ValueT]):
    """Values by keys that mean the same for ever. Any thread may use it; losing a value costs only time.

    Args:
        room: what all values may weigh together.
        weigh: what one weighs.
    """

    def __init__(self, room: int, weigh: Callable[[ValueT], int]) -> None:
        self._room = room
        self._weigh = weigh
        self._kept: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: KeyT) -> ValueT | None:
        """Return a value if it is here."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def keep(self, key: KeyT, value: ValueT) -> None:
        """Keep a value, in place of those that nobody asked for for longest."""
        weight = self._weigh(value)
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = value, weight
            self._room -= weight
            while self._room < 0:
                _, (_, gone) = self._kept.popitem(last=False)
                self._room += gone
