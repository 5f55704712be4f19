"""Planned uploads on the wire: what is to be sent where, what is missing, and how far the service is with it."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from registry.fields import AnswerModel, WireModel
from registry.schema import VersionCreate, VersionInfo

UploadState: TypeAlias = Literal["open", "verifying", "published", "failed", "expired"]
MAX_PARTS = 10_000
"""Of one file: what S3 takes."""
MAX_WANTED = 1_000
"""Parts of one file that can be asked for in one request."""

MAX_TILES = 10_000
"""Of all files of an upload."""

PartNumber = Annotated[int, Field(ge=1, le=MAX_PARTS)]
ClaimedTile = tuple[Annotated[int, Field(ge=1, lt=1 << 63)], Annotated[str, Field(pattern=r"^(blake3:)?[0-9a-f]{64}$")]]
"""Length of a tile in bytes, and the BLAKE3 of its bytes."""


class UploadCreate(WireModel):
    """What shall become a version: its metadata, with the size of every file among the announcements.

    Attributes:
        direct: whether parts may go straight to the bucket, where there is one.
        tiles: of files by path, for those of which only what is new shall be sent. They cover the file from its begin
            to its end. Where neither its SHA-256 nor its BLAKE3 is announced, what comes must have these tiles.
    """

    metadata: VersionCreate
    direct: bool = True
    tiles: dict[str, Annotated[list[ClaimedTile], Field(min_length=1, max_length=MAX_TILES)]] = {}


class PartRequest(AnswerModel):
    """The request that sends one part: the bytes from `offset`, `length` of them, of the file or of what is sent of it.

    `url` is a path where the service itself takes the part. With `expires_at` the request is good until then.
    """

    number: int
    offset: int
    length: int
    method: str
    url: str
    headers: dict[str, str]
    expires_at: datetime | None = None


class PlannedFile(AnswerModel):
    """A file of an upload. It is sent in parts of `part_bytes`, of which the last may be shorter.

    `send` are the ranges of the file that are to be sent, offset and length in bytes: joined, they are what the parts
    are cut from. None is all of it, and no range nothing of it.
    `missing` are first and last numbers of the parts that are not there, counted from 1; `parts`, in the answer to a
    plan, how to send the first of them.
    """

    path: str
    size_bytes: int
    part_bytes: int
    missing: list[tuple[int, int]]
    send: list[tuple[int, int]] | None = None
    parts: list[PartRequest] = []

    @property
    def send_bytes(self) -> int:
        """How many bytes are to be sent."""
        return self.size_bytes if self.send is None else sum(length for _, length in self.send)


class UploadInfo(AnswerModel):
    """An upload and how far it is. `version` is set once it is published, `problem` (RFC 9457) once it has failed."""

    id: str
    team: str
    model: str
    state: UploadState
    direct: bool
    created_at: datetime
    expires_at: datetime
    files: list[PlannedFile]
    version: VersionInfo | None = None
    problem: dict[str, Any] | None = None


class PartsWanted(WireModel):
    """Which parts of a file are about to be sent."""

    path: Annotated[str, Field(max_length=1000)]
    numbers: Annotated[list[PartNumber], Field(min_length=1, max_length=MAX_WANTED)]


class PartRequests(AnswerModel):
    """How to send the parts that were asked for, in the order asked."""

    parts: list[PartRequest]
