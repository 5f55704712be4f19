"""A pack: ranges of an artifact in one file of the cache, each storage in it verified by its own BLAKE3."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from registry.client.answers import Incoming
from registry.client.cache import BLAKE3_BYTES, Cache
from registry.client.landing import Landing
from registry.client.partial import PartialFile
from registry.client.storage_index import Held, StorageIndex
from registry.formats.source import ByteRange

GAP_BYTES = 1 << 10
"""Read and kept between two storages: another request would take as much for its headers."""
WIDE_GAP_BYTES, GAPS_SHARE = 64 << 10, 32
"""Read, too, where all gaps of a run are no more than this part of what it brings: requests would take longer."""
ALIGNMENT_BYTES = 64
"""Bytes lie in a pack as they lie in their artifact, by this; what was aligned there can be mapped here."""


@dataclass(frozen=True, slots=True)
class PackLayout:
    """What a pack shall hold.

    Attributes:
        held: the wanted bytes of the artifact, in order, by digest; offsets are those in the artifact.
        unverified: digests of `held` that are names only, verified by who uses them.
        runs: ranges of the artifact that cover them, in order.
        places: where each run lies in the pack.
    """

    held: tuple[Held, ...]
    unverified: frozenset[str]
    runs: tuple[ByteRange, ...]
    places: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The size of the pack."""
        return self.places[-1] + self.runs[-1][1]

    @property
    def wanted_bytes(self) -> int:
        """How many bytes of the artifact are fetched."""
        return sum(length for _, length in self.runs)

    def name(self, artifact: str) -> str:
        """Return 64 digits that say what is wanted of the artifact with a digest."""
        said = "\n".join([artifact, *(f"{offset} {length}" for offset, length in self.runs)])
        return blake3(said.encode()).hexdigest()

    def find(self, offset: int) -> int:
        """Return where a byte of the artifact lies in the pack."""
        at = bisect_right(self.runs, offset, key=lambda run: run[0]) - 1
        return self.places[at] + offset - self.runs[at][0]

    def find_in_artifact(self, place: int) -> int:
        """Return where a byte of the pack lies in the artifact."""
        at = bisect_right(self.places, place) - 1
        return self.runs[at][0] + place - self.places[at]


def lay_out(held: Sequence[Held], unverified: frozenset[str] = frozenset()) -> PackLayout:
    """Return how bytes of an artifact make a pack, in as few runs as that pays."""
    ordered = sorted(held, key=lambda each: each.offset)
    runs: list[ByteRange] = []
    wanted = vain = 0  # of the last run
    for each in ordered:
        end = each.offset + each.length
        start, length = runs[-1] if runs else (0, 0)
        gap = each.offset - start - length
        if runs and gap <= max(GAP_BYTES, min(WIDE_GAP_BYTES, wanted // GAPS_SHARE - vain)):
            runs[-1] = (start, max(start + length, end) - start)
            vain += max(gap, 0)
        else:
            runs.append((each.offset, each.length))
            wanted = vain = 0
        wanted += each.length
    places: list[int] = []
    position = 0
    for offset, length in runs:
        places.append(position + (offset - position) % ALIGNMENT_BYTES)
        position = places[-1] + length + 1  # a byte that nobody fetches keeps runs apart
    return PackLayout(tuple(ordered), unverified, tuple(runs), tuple(places))


class PartialPack(PartialFile):
    """A pack on its way into the cache; offsets are those of the artifact.

    Args:
        cache: where it is.
        artifact: the artifact's digest.
        layout: what it shall hold.
    """

    def __init__(self, cache: Cache, artifact: str, layout: PackLayout) -> None:
        self._layout = layout
        super().__init__(cache, layout.name(artifact), layout.size_bytes)
        self._skip_padding()

    def missing(self) -> list[ByteRange]:
        """Return what is not there yet, as ranges of the artifact."""
        return [(self._layout.find_in_artifact(place), length) for place, length in super().missing()]

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes of the artifact where they belong."""
        super().write(self._layout.find(offset), data)

    def receive(self, incoming: Incoming, landing: Landing, offset: int, most_bytes: int) -> int:
        """Put what comes next of an answer where bytes of the artifact from an offset on belong."""
        return super().receive(incoming, landing, self._layout.find(offset), most_bytes)

    def note(self, offset: int, length: int) -> None:
        """Take down that these bytes of the artifact were written."""
        super().note(self._layout.find(offset), length)

    def finish(self) -> Path | None:
        """Give the complete pack its name in the cache and return that; None when it begins anew.

        Raises:
            DigestMismatchError: a storage is something else; nothing is kept of the pack.
            StorageFullError: the disk filled up.
        """
        layout = self._layout
        placed = [each._replace(offset=layout.find(each.offset)) for each in layout.held]
        for each in placed:
            found = each.digest if each.digest in layout.unverified else self._digest(each.offset, each.length)
            if found != each.digest:
                self._refuse(found, each.digest)
                return None
        digest = self._digest(0, self._size_bytes)
        StorageIndex(self._cache).add(digest, self._size_bytes, placed)
        return self._adopt(digest)

    def _digest(self, offset: int, length: int) -> str:
        hasher = blake3(max_threads=blake3.AUTO)
        buffer = memoryview(bytearray(min(BLAKE3_BYTES, length)))
        with self._cache.translated_errors():
            while length:
                size = self._file.read_into(offset, buffer[: min(len(buffer), length)])
                if not size:
                    break
                hasher.update(buffer[:size])
                offset, length = offset + size, length - size
        return f"blake3:{hasher.hexdigest()}"

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._skip_padding()

    def _skip_padding(self) -> None:
        position = 0
        for (_, length), place in zip(self._layout.runs, self._layout.places, strict=True):
            self._landed.add(position, place - position)
            position = place + length
