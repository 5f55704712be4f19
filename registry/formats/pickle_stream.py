"""Pickles that stand one after the other in a file, with binary values between them."""

from registry.errors import MalformedArtifactError
from registry.formats.limits import Limits
from registry.formats.machine import MachineResult, run_prefix
from registry.formats.machine_state import PersistentLoad
from registry.formats.nodes import Node
from registry.formats.source import ByteRange, ByteSource

_WINDOW_GROWTH = 8


class PickleStream:
    """A part of a file, read from its start in windows that grow until the next pickle fits.

    Args:
        source: the file.
        place: the part of it.
        limits: bounds on each pickle.
        window_bytes: what to read at first.

    Attributes:
        position: in the file, of what comes next, in bytes.
        results: what the pickles so far said.
    """

    def __init__(self, source: ByteSource, place: ByteRange, limits: Limits, *, window_bytes: int) -> None:
        self._source = source
        self._limits = limits
        self._window_bytes = window_bytes
        self._window = b""
        self._window_start = self.position = place[0]
        self._end = place[0] + place[1]
        self.results: list[MachineResult] = []

    def next(self, persistent_load: PersistentLoad | None = None) -> Node:
        """Run the next pickle and return its value.

        Raises:
            MalformedArtifactError: there is none, or it cannot be read strictly.
            UnsafeArtifactError: likewise, after it mentioned something that does harm.
        """
        while True:
            at, known = self._find(1)
            last = self.position + known >= self._end or known >= self._limits.pickle_bytes
            result = run_prefix(self._window, self._limits, start=at, persistent_load=persistent_load, last=last)
            if result is not None:
                self.results.append(result)
                self.position = self._window_start + result.end
                return result.root
            self._read(known * _WINDOW_GROWTH)

    def take(self, length: int) -> bytes:
        """Return the next bytes.

        Raises:
            MalformedArtifactError: there are not as many.
        """
        self._check(length)
        at, _ = self._find(length)
        self.position += length
        return self._window[at : at + length]

    def skip(self, length: int) -> None:
        """Pass over bytes.

        Raises:
            MalformedArtifactError: there are not as many.
        """
        self._check(length)
        self.position += length

    def finish(self) -> None:
        """Refuse bytes that are left.

        Raises:
            MalformedArtifactError: there are some.
        """
        if self.position != self._end:
            raise MalformedArtifactError(f"Bytes follow the end of the last pickle, at {self.position}.")

    def _check(self, length: int) -> None:
        if not 0 <= length <= self._end - self.position:
            raise MalformedArtifactError(f"The file is truncated: {length} more bytes are needed at {self.position}.")

    def _find(self, length: int) -> tuple[int, int]:
        """Return where the next bytes lie in the window, and how many of them it holds: `length` if there are."""
        at = self.position - self._window_start
        if at + length > len(self._window):
            self._read(length)
            at = 0
        return at, len(self._window) - at

    def _read(self, length: int) -> None:
        length = min(max(length, self._window_bytes), self._limits.pickle_bytes, self._end - self.position)
        (self._window,) = self._source.read_many([(self.position, length)])
        self._window_start = self.position
