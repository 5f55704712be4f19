"""Bulk bytes as one stream: artifacts from the service into a file, files to the service as one form."""

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.client.answers import PIECE_BYTES
from registry.client.progress import Bar
from registry.client.transport import Transport, back_off_seconds, route
from registry.client.verified_writing import VerifiedWriter
from registry.errors import ServerUnreachableError, SizeMismatchError
from registry.schema import ArtifactAnnouncement, ArtifactInfo, VersionCreate, VersionInfo
from registry.uploads import ClaimedTile

MAX_FAILURES = 5
"""Broken connections in a row, each without `PROGRESS_BYTES` of progress, before a download gives up."""
PROGRESS_BYTES = 1 << 20
_OK = 200


def receive_artifact(
    transport: Transport, writer: VerifiedWriter, version: VersionInfo, artifact: ArtifactInfo, bar: Bar
) -> None:
    """Write an artifact as it arrives, over as many connections as that takes; the caller finishes the writer.

    Raises:
        ServerUnreachableError: the connection broke too often.
        SizeMismatchError: there were more bytes than announced.
        StorageFullError: there is no room.
    """
    path = route(
        "models", version.team, version.model, "versions", version.number, "artifacts", *artifact.path.split("/")
    )
    failures = 0
    while writer.size_bytes < artifact.size_bytes:
        before = writer.size_bytes
        try:
            _receive(transport, path, artifact, writer, bar)
        except ServerUnreachableError:
            failures = 0 if writer.size_bytes - before >= PROGRESS_BYTES else failures + 1
            if failures >= MAX_FAILURES:
                raise
            time.sleep(back_off_seconds(failures + 1))


def _receive(transport: Transport, path: str, artifact: ArtifactInfo, writer: VerifiedWriter, bar: Bar) -> None:
    """Receive what is missing over one connection."""
    start, size_bytes = writer.size_bytes, artifact.size_bytes
    etag = f'"{artifact.sha256.removeprefix("sha256:")}"'
    headers = {"Range": f"bytes={start}-", "If-Range": etag} if start else {}
    with transport.open("GET", path, query=[("direct", "false")], headers=headers) as incoming:
        if start and incoming.status == _OK:  # the range was not honoured: this is the whole artifact again
            writer.restart()
            bar.advance(-start)
        for piece in incoming.iter_pieces():
            if writer.size_bytes + len(piece) > size_bytes:
                raise SizeMismatchError(f"The service sent more than the {size_bytes} bytes of the artifact.")
            writer.write(piece)
            bar.advance(len(piece))
    if writer.size_bytes < size_bytes:
        raise ServerUnreachableError(f"The service sent {writer.size_bytes} of {size_bytes} bytes. Try again.")


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A local file that becomes the artifact `path`; its size, and its digests where they are known, are announced.

    Attributes:
        digest: `blake3:…` or `sha256:…` of it; empty where nobody has computed one.
        blake3: `blake3:…` of it, beside another digest.
        tiles: into which it is cut, where their digests are known.
    """

    path: str
    file: Path
    size_bytes: int
    digest: str = ""
    blake3: str | None = None
    tiles: Sequence[ClaimedTile] = ()

    @property
    def announcement(self) -> ArtifactAnnouncement:
        """What the service is told of it."""
        digests = {digest.partition(":")[0]: digest for digest in (self.blake3, self.digest) if digest}
        return ArtifactAnnouncement.model_validate({**digests, "size_bytes": self.size_bytes})

    def is_same(self, artifact: ArtifactInfo) -> bool:
        """Return whether an artifact holds these bytes under this path."""
        return artifact.path == self.path and self.digest in (artifact.sha256, artifact.blake3)


def announce(metadata: VersionCreate, files: Sequence[OutgoingFile]) -> VersionCreate:
    """Return metadata with what the service is told of files."""
    return metadata.model_copy(update={"artifacts": {each.path: each.announcement for each in files}})


class UploadForm:
    """A `multipart/form-data` body (RFC 7578): one JSON field, then files; made piece by piece, as often as asked."""

    def __init__(self, metadata: bytes, files: Sequence[OutgoingFile], bar: Bar) -> None:
        boundary = f"weighbridge-{secrets.token_hex(16)}"
        self._files = files
        self._bar = bar
        self._metadata = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="metadata"\r\nContent-Type: application/json\r\n\r\n'
        ).encode() + metadata
        self._heads = [_file_head(boundary, each.path) for each in files]
        self._end = f"\r\n--{boundary}--\r\n".encode()
        size = len(self._metadata) + sum(map(len, self._heads)) + sum(each.size_bytes for each in files)
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(size + len(self._end)),
        }

    def iter_body(self) -> Iterator[bytes]:
        """Yield the body, at most 1 MiB at a time.

        Raises:
            SizeMismatchError: a file changed its size since it was announced.
        """
        self._bar.restart()
        yield self._metadata
        for head, each in zip(self._heads, self._files, strict=True):
            yield head
            sent = 0
            with each.file.open("rb", buffering=0) as file:
                while piece := file.read(min(PIECE_BYTES, each.size_bytes - sent)):
                    yield piece
                    sent += len(piece)
                    self._bar.advance(len(piece))
            if sent != each.size_bytes:
                raise SizeMismatchError(f"{each.file} became shorter while it was sent. Push it again.")
        yield self._end


def _file_head(boundary: str, path: str) -> bytes:
    # Quotes and backslashes as RFC 7578 refers to RFC 2183: a quoted string with backslash escapes.
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{escaped}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
