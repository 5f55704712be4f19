"""SHA-256 of files while their parts still come: it follows the parts that are there without a gap."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from registry.digest import Sha256Prefix
from registry.errors import UploadEndedError
from storage.blobs.base import BlobStore
from storage.metadata.upload_records import PlannedFileRecord
from storage.midstates import mark_positions

MAX_FOLLOWED = 256
"""Files at once; one that is forgotten is digested when its upload is completed."""


@dataclass(slots=True)
class _Followed:
    """A file that is followed. One thread at a time digests it; others leave word that there may be more."""

    prefix: Sha256Prefix
    turn: threading.Lock = field(default_factory=threading.Lock)
    is_more: bool = False
    is_taken: bool = False


class Prefixes:
    """What this process knows of files that are being sent through it. Losing it costs only time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followed: OrderedDict[str, _Followed] = OrderedDict()

    def follow(self, blobs: BlobStore, file: PlannedFileRecord) -> None:
        """Digest what has become contiguous, unless another thread is at it, which then goes on."""
        if not blobs.reads_gathered or file.extents is not None:  # of a pack, the file's digest cannot be begun
            return
        with self._lock:
            followed = self._followed.get(file.location)
            if followed is None:
                followed = self._followed[file.location] = _Followed(Sha256Prefix(mark_positions(file.size_bytes)))
            self._followed.move_to_end(file.location)
            while len(self._followed) > MAX_FOLLOWED:
                self._followed.popitem(last=False)
        followed.is_more = True
        while followed.is_more and followed.turn.acquire(blocking=False):
            try:
                followed.is_more = False
                if not followed.is_taken:
                    _advance(blobs, file, followed.prefix)
            except UploadEndedError:
                self._forget(file.location)
            finally:
                followed.turn.release()

    def take(self, location: str) -> Sha256Prefix | None:
        """Return how far a file was digested, and forget it; None if it was not followed here."""
        followed = self._forget(location)
        if followed is None:
            return None
        with followed.turn:
            followed.is_taken = True
            return followed.prefix

    def _forget(self, location: str) -> _Followed | None:
        with self._lock:
            return self._followed.pop(location, None)


def _advance(blobs: BlobStore, file: PlannedFileRecord, prefix: Sha256Prefix) -> None:
    there = {part.number for part in blobs.list_parts(file.location, file.multipart_id)}
    number = prefix.size_bytes // file.part_bytes + 1
    while number in there:
        offset, length = file.place(number)
        for piece in blobs.iter_gathered(file.location, offset, length):
            prefix.update(piece)
        number += 1
