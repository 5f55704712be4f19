"""One sequential pass over what was received: read ahead in one thread, SHA-256 in another, BLAKE3 in this one."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from registry.digest import StreamDigests
from registry.formats.source import ByteRange
from storage.blobs.base import BlobStore
from storage.push import Received


def digest_received(
    blobs: BlobStore, received: Received, ranges: Sequence[ByteRange], beat: Callable[[], None]
) -> StreamDigests:
    """Return the digests of a file and of ranges of it; its SHA-256 only where that is not known yet.

    Args:
        blobs: where it is.
        received: the file.
        ranges: offsets and lengths, in bytes.
        beat: called now and then.

    Raises:
        BlobNotFoundError, BlobStoreUnavailableError: its bytes cannot be read.
    """
    sha256 = received.sha256_prefix or True if received.sha256 is None else False
    digests = StreamDigests(ranges, received.size_bytes, sha256=sha256)
    with ThreadPoolExecutor(2, "digest") as beside:
        for piece in _read_ahead(blobs.stream(received.location), beside):
            digests.update(piece, beside)
            beat()
    return digests


def _read_ahead(pieces: Iterator[bytes], beside: ThreadPoolExecutor) -> Iterator[bytes]:
    """Yield pieces while the next one is read. At most two are in memory."""
    following = beside.submit(next, pieces, None)
    while (piece := following.result()) is not None:
        following = beside.submit(next, pieces, None)
        yield piece
