"""What the files of the cache hold, by the digests of their storages: one small file beside each, never changed.

    <cache>/v1/indexes/<digest of the file>     places of storages in the file with that BLAKE3

Every digest was computed here, of the bytes in the file: what a service says of a file is not taken down. An index
whose file is gone says nothing; a file without an index is read once. There are no locks: an index appears by a rename.
"""

import contextlib
import os
import struct
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from registry.client.cache import BLAKE3_BYTES, Cache
from registry.digest import StreamDigests
from registry.errors import WeighbridgeError
from registry.formats.source import ByteRange, FileSource
from registry.pieces import Place

_HEADER = struct.Struct("<16sQ")
_MAGIC = b"weighbridge-ix-1"
_RECORD = struct.Struct("<32sQQ")
_DIGEST_BYTES = 32


class Held(NamedTuple):
    """Bytes of a file: their digest (`blake3:…`), where they begin, and how many they are."""

    digest: str
    offset: int
    length: int


class StorageIndex:
    """Finds storages in the files of a cache, whatever those are of."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def find(self, wanted: Mapping[str, int]) -> dict[str, Place]:
        """Return where the cache holds storages; files that were used last are looked at first.

        Args:
            wanted: lengths in bytes by digest (`blake3:…`).
        """
        left = {bytes.fromhex(digest.partition(":")[2]): (digest, length) for digest, length in wanted.items()}
        found: dict[str, Place] = {}
        for index in self._newest_first() if left else ():
            body = _read(index)
            here = {
                digest: offset
                for digest, offset, length in _RECORD.iter_unpack(body[_HEADER.size :])
                if digest in left and left[digest][1] == length
            }
            file = self._find_file(index, body) if here else None
            if file is None:
                continue
            path, file_bytes = file
            for digest, offset in here.items():
                if offset + left[digest][1] <= file_bytes:
                    found[left.pop(digest)[0]] = Place(path, offset, file_bytes)
            if not left:
                break
        return found

    def add(self, digest: str, size_bytes: int, held: Iterable[Held]) -> None:
        """Write the index of a file of the cache, which may appear afterwards. One that cannot be written is none."""
        records = sorted({(bytes.fromhex(each.digest.partition(":")[2]), each.offset, each.length) for each in held})
        body = _HEADER.pack(_MAGIC, size_bytes) + b"".join(_RECORD.pack(*each) for each in records)
        path = self._cache.index_of(digest)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                file.write(body + blake3(body).digest())
            Path(file.name).replace(path)

    def read_more(self, most_bytes: int) -> bool:
        """Index files that have no index, those used last first, as long as they are not more than so many bytes.

        Returns:
            whether there was one.
        """
        there = {path.name for path in self._newest_first()}
        entries = [each for each in self._cache.iter_entries() if each.digest.startswith("blake3:")]
        has_read = False
        for entry in sorted(entries, key=lambda each: -each.used_at):
            if entry.path.name in there:
                continue
            most_bytes -= entry.size_bytes
            if most_bytes < 0:
                break
            with contextlib.suppress(OSError):
                self.add(entry.digest, entry.size_bytes, hold(entry.path, _find_storages(entry.path)))
                has_read = True
        return has_read

    def _newest_first(self) -> list[Path]:
        folder = self._cache.index_of("blake3:x").parent
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            return [Path(path) for _, path in sorted(_times(entries), reverse=True)]
        return []

    def _find_file(self, index: Path, body: bytes) -> tuple[Path, int] | None:
        """Return the file that an index is of, where it is there with the size that it had; note that it is used."""
        size_bytes = _HEADER.unpack_from(body)[1]
        path = self._cache.find(f"blake3:{index.name}", size_bytes)
        if path is None:
            return None
        with contextlib.suppress(OSError):
            os.utime(index)
        return path, size_bytes


def hold(path: Path, ranges: Collection[ByteRange]) -> list[Held]:
    """Return ranges of a file with the digests that its bytes have, read once."""
    size_bytes = path.stat().st_size
    digests = StreamDigests(list(ranges), size_bytes, sha256=False)
    buffer = bytearray(BLAKE3_BYTES)
    with path.open("rb", buffering=0) as file, memoryview(buffer) as view:
        while ranges and (count := file.readinto(buffer)):
            digests.update(view[:count])
    return held_of(ranges, digests.find_range)


def held_of(ranges: Collection[ByteRange], find: Callable[[int, int], str | None]) -> list[Held]:
    """Return ranges with the digests that were found for them; those without one are left out."""
    return [Held(digest, offset, length) for offset, length in ranges if length and (digest := find(offset, length))]


def _find_storages(path: Path) -> list[ByteRange]:
    """Return where the storages of a weight file lie; of anything else, nowhere."""
    from registry.formats.reader import read

    try:
        with FileSource(path) as source:
            storages = read(source).inspection.storages
    except WeighbridgeError:
        return []
    return [(each.file_offset, each.nbytes) for each in storages if each.file_offset is not None]


def _times(entries: Iterable[os.DirEntry[str]]) -> Iterator[tuple[int, str]]:
    for each in entries:
        with contextlib.suppress(OSError):
            if not each.name.startswith("."):
                yield each.stat().st_mtime_ns, each.path


def _read(index: Path) -> bytes:
    """Return the header and the records of an index; nothing of one that is damaged."""
    with contextlib.suppress(OSError):
        data = index.read_bytes()
        body, check = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if body.startswith(_MAGIC) and blake3(body).digest() == check:
            return body
    return b""
