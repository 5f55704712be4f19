"""Where the bytes of a version are right now: runs of its artifacts, signed for a bucket where that is allowed."""

from collections.abc import Iterator
from dataclasses import dataclass

from registry.errors import LimitError, RangeNotSatisfiableError
from registry.formats.source import ByteRange
from registry.reads import MAX_RUN_BYTES, MAX_RUNS, ReadsQuery
from storage.access import Caller
from storage.blobs.base import SignedRequest
from storage.metadata.records import Extent, StoredArtifact
from storage.read import get_artifact, require_open, runs_of
from storage.stores import Stores

READ_URL_SECONDS = 300
"""The life of a URL to read by: what was revoked, deleted or put into quarantine is out of reach that soon."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Bytes of the artifact `path`; `signed` asks the bucket for them, None leaves that to the service."""

    path: str
    offset: int
    length: int
    signed: SignedRequest | None


def plan_reads(  # noqa: PLR0917 - a version is named by three words
    stores: Stores, caller: Caller, team: str, model: str, selector: str, query: ReadsQuery
) -> tuple[int, list[PlannedRun]]:
    """Return the version's number and the runs that are exactly what is asked for, in order.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: it is not there.
        PermissionDeniedError: an artifact runs code, and the team lets others open that.
        RangeNotSatisfiableError: a range ends behind its artifact.
        LimitError: it would be more runs than one answer has.
    """
    planned: list[PlannedRun] = []
    number: int | None = None
    for each in query.artifacts:
        # An alias may move between two questions: the others are of the version that the first is of.
        artifact = get_artifact(stores, caller, team, model, selector if number is None else str(number), each.path)
        number = artifact.version_number
        if artifact.info.trust != "tensors":
            require_open(stores, caller, team, artifact)
        direct = query.direct and _is_direct(stores, artifact)
        for run in _plan(artifact, each.ranges):
            if len(planned) == MAX_RUNS:
                raise LimitError(
                    f"That is more than {MAX_RUNS} runs of at most {MAX_RUN_BYTES} bytes. Ask for less at once."
                )
            planned.append(_sign(stores, artifact, run, direct=direct))
    return number or 0, planned


def sign_download(stores: Stores, artifact: StoredArtifact, disposition: str) -> SignedRequest | None:
    """Return a GET of a whole artifact from the bucket; None where its bytes go through the service.

    A URL for a whole object is given only when that object is the artifact and nothing else.
    """
    if not (_is_direct(stores, artifact) and artifact.is_whole_object):
        return None
    return stores.blobs.presign_object(artifact.extents[0].location, disposition, READ_URL_SECONDS)


def _is_direct(stores: Stores, artifact: StoredArtifact) -> bool:
    return stores.is_direct and artifact.info.trust == "tensors"


def _plan(artifact: StoredArtifact, ranges: list[ByteRange] | None) -> Iterator[tuple[int, Extent]]:
    """Yield offsets in the artifact with the pieces of objects that begin there, each short enough."""
    size_bytes = artifact.info.size_bytes
    for offset, length in [(0, size_bytes)] if ranges is None else ranges:
        if offset + length > size_bytes:
            raise RangeNotSatisfiableError(
                f"{artifact.info.path} has {size_bytes} bytes; the range {offset}+{length} ends behind them.",
                size_bytes=size_bytes,
            )
        position = offset
        for run in runs_of(artifact.extents, offset, length):
            for start in range(0, run.length, MAX_RUN_BYTES):
                piece = Extent(run.location, run.offset + start, min(MAX_RUN_BYTES, run.length - start))
                yield position, piece
                position += piece.length


def _sign(stores: Stores, artifact: StoredArtifact, run: tuple[int, Extent], *, direct: bool) -> PlannedRun:
    offset, piece = run
    signed = None
    if direct:
        signed = stores.blobs.presign_read(piece.location, piece.offset, piece.length, READ_URL_SECONDS)
    return PlannedRun(artifact.info.path, offset, piece.length, signed)
