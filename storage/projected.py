"""A safetensors stream that lies scattered over artifacts: what it is made of, and its bytes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from storage.assembled import AssembledBlobs
from storage.blobs.base import BlobStore
from storage.metadata.records import StoredArtifact

GAP_BYTES = 64 << 10
"""What lies between two tensors and is read and dropped; archives align and describe each of their records."""
GATHERED_BYTES = 4 << 20
"""Short runs that are asked for at once have no more bytes than this."""
GATHERED_RUNS = 256
SHORT_BYTES = 1 << 20
PIECE_BYTES = 256 << 10
"""Pieces of the stream have at least as much, but for the last one."""


class Span(NamedTuple):
    """Bytes of the artifact at `path`."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Projection:
    """A safetensors stream that can be read: a header, and behind it the spans, one after the other.

    Attributes:
        number: of the version.
        etag: a digest of everything that the bytes depend on.
        size_bytes: of the whole stream.
        artifacts: that it is read from.
    """

    number: int
    etag: str
    header: bytes
    spans: tuple[Span, ...]
    size_bytes: int
    artifacts: tuple[StoredArtifact, ...]

    @property
    def strictest(self) -> StoredArtifact:
        """The artifact that the fewest may read."""
        return max(self.artifacts, key=lambda each: each.info.trust != "tensors")


def iter_projection(blobs: BlobStore, projection: Projection, offset: int, length: int) -> Iterator[bytes]:
    """Yield a byte range of the stream in pieces of about 1 MiB; a few MiB are in memory at a time.

    Raises:
        BlobNotFoundError: its bytes are gone. BlobDamagedError: some of them. BlobStoreUnavailableError: the store does
            not answer.
    """
    assembled = AssembledBlobs(blobs, {each.info.path: each.extents for each in projection.artifacts})
    end = offset + length
    header = projection.header[offset:end]
    waiting, size = [header], len(header)
    for piece in _iter_spans(assembled, _cut(projection, offset, end)):
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)


def _cut(projection: Projection, start: int, end: int) -> Iterator[Span]:
    """Yield the spans that lie in a range of the stream, cut to it."""
    position = len(projection.header)
    for span in projection.spans:
        first, last = max(start, position), min(end, position + span.length)
        if first < last:
            yield Span(span.path, span.offset + first - position, last - first)
        position += span.length


def _iter_spans(assembled: AssembledBlobs, spans: Iterator[Span]) -> Iterator[bytes]:
    """Yield the bytes of spans: long runs as streams, short ones many at a time."""
    for is_short, runs in groupby(_iter_runs(spans), key=lambda run: _extent(run)[1] <= SHORT_BYTES):
        if is_short:
            for batch in _iter_batches(runs):
                yield from _gather(assembled, batch)
        else:
            for run in runs:
                yield from _stream(assembled, run)


def _iter_runs(spans: Iterator[Span]) -> Iterator[list[Span]]:
    """Yield spans that follow each other closely in one artifact, together."""
    run: list[Span] = []
    for span in spans:
        end = run[-1].offset + run[-1].length if run else 0
        if run and not (span.path == run[-1].path and end <= span.offset <= end + GAP_BYTES):
            yield run
            run = []
        run.append(span)
    if run:
        yield run


def _extent(run: Sequence[Span]) -> tuple[int, int]:
    """Return offset and length of what one read of a run covers."""
    return run[0].offset, run[-1].offset + run[-1].length - run[0].offset


def _iter_batches(runs: Iterator[list[Span]]) -> Iterator[list[Span]]:
    batch: list[Span] = []
    size = count = 0
    for run in runs:
        length = sum(span.length for span in run)
        if batch and (size + length > GATHERED_BYTES or count == GATHERED_RUNS):
            yield batch
            batch, size, count = [], 0, 0
        batch, size, count = [*batch, *run], size + length, count + 1
    if batch:
        yield batch


def _gather(assembled: AssembledBlobs, batch: Sequence[Span]) -> Iterator[bytes]:
    for path, spans in groupby(batch, key=lambda span: span.path):
        yield from assembled.read_many(path, [(span.offset, span.length) for span in spans])


def _stream(assembled: AssembledBlobs, run: Sequence[Span]) -> Iterator[bytes]:
    """Yield the bytes of a run out of one read; what lies between its spans is dropped."""
    position, length = _extent(run)
    waiting = iter(run)
    span = next(waiting)
    for piece in assembled.stream(span.path, position, length):
        view, position = memoryview(piece), position + len(piece)
        start = position - len(piece)
        while True:
            yield bytes(view[max(span.offset - start, 0) : max(span.offset + span.length - start, 0)])
            if span.offset + span.length > position:
                break
            following = next(waiting, None)
            if following is None:
                return
            span = following
