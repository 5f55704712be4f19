"""A weight file whose bytes lie in several local files: what was read of it, and where each of its storages is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from registry.formats.inspection import Document


class Place(NamedTuple):
    """Where a storage lies.

    Attributes:
        file: that holds it.
        offset: of its first byte there.
        file_bytes: the size that the file has.
    """

    file: Path
    offset: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """A weight file that is nowhere as a whole, with as much of it as somebody asked for.

    Attributes:
        name: of the file, for people.
        document: what it holds, read from its own structure.
        places: of the storages that are at hand, by key. Two keys may have one place: equal bytes, not one memory.
    """

    name: str
    document: Document
    places: Mapping[str, Place]


WeightFile: TypeAlias = Path | Pieces
