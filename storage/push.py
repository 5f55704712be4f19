"""A push on its way: who pushes what where, and that they still may."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from registry.digest import Sha256Prefix
from registry.errors import WeighbridgeError
from registry.formats.source import ByteRange
from registry.tiles import Tile
from storage.access import Caller
from storage.admission import admit_to_push
from storage.garbage import sweep_locations
from storage.metadata.records import PlannedExtent, Source
from storage.stores import Stores
from storage.tokens import recheck

LEASE = timedelta(minutes=2)
"""How long a push that gives no sign of life is waited for; `Push.beat` renews it."""
BEAT_SECONDS = 20.0

log = logging.getLogger("weighbridge.publish")


@dataclass(frozen=True, slots=True)
class Assembled:
    """How a file lies of which some was stored before.

    Attributes:
        extents: they tile it exactly; those without an object lie in the pack.
        sources: the objects that they name.
        location: of the pack; None where nothing had to be sent.
        pack_bytes: its size.
    """

    extents: tuple[PlannedExtent, ...]
    sources: tuple[Source, ...]
    location: str | None
    pack_bytes: int

    def pack_ranges(self) -> Iterator[ByteRange]:
        """Yield the ranges of the file that the pack holds, in the order in which it holds them."""
        position = 0
        for extent in self.extents:
            if extent.object_id is None:
                yield position, extent.length
            position += extent.length


@dataclass(frozen=True, slots=True)
class Received:
    """A file whose bytes are all there.

    Attributes:
        location: where they were committed; empty while a finished push is repeated and nothing is stored. Of an
            assembled file it is what `AssembledBlobs` calls it.
        sha256, blake3: their digests where they were digested as they came; None where they are still to be.
        head: the first bytes, which tell the format.
        sha256_prefix: what was digested of them as they came, where that is not all.
        assembled: how it lies, where some of it was stored before.
        claimed: the tiles that it shall have, where no digest of all of it was announced.
    """

    path: str
    location: str
    size_bytes: int
    sha256: str | None
    blake3: str | None
    head: bytes
    sha256_prefix: Sha256Prefix | None = None
    assembled: Assembled | None = None
    claimed: tuple[Tile, ...] = ()


class Push(ABC):
    """What becomes a version, or leaves nothing behind.

    Attributes:
        received: the files that are complete.
    """

    def __init__(self, stores: Stores, caller: Caller, team: str, model: str) -> None:
        self.stores = stores
        self.caller = caller
        self.team = team
        self.model = model
        self.received: list[Received] = []
        self._next_beat = time.monotonic() + BEAT_SECONDS

    @property
    def reading(self) -> Stores:
        """Where what was received can be read."""
        return self.stores

    @property
    @abstractmethod
    def locations(self) -> Sequence[str]:
        """Where its bytes are."""

    @abstractmethod
    def renew(self) -> None:
        """Say that it is alive.

        Raises:
            UnavailableError: it was given up meanwhile.
        """

    def beat(self) -> None:
        """Say that it is alive, if its caller may still push.

        Raises:
            UnavailableError: it was given up meanwhile.
            AuthenticationRequiredError, AccessError, NotFoundError: they may no more.
        """
        self.recheck()
        self.renew()

    def beat_when_due(self) -> None:
        """Beat when it is time, however often this is called."""
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_SECONDS
            self.beat()

    def recheck(self) -> None:
        """Look whether the caller may still push: rights may be taken away while bytes come.

        Raises:
            AuthenticationRequiredError, PermissionDeniedError, ModelNotFoundError: they may not.
        """
        self.caller = recheck(self.stores, self.caller)
        admit_to_push(self.stores, self.caller, self.team, self.model)

    def finish(self) -> None:
        """Drop bytes that the publishing transaction did not need: the team had them already."""
        try:
            sweep_locations(self.stores, self.locations, cancel=False)
        except WeighbridgeError as error:
            log.warning("Repeated bytes are dropped later, by the collector: %s", error)
