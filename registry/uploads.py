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

PartNumber = Annotated[int, Field(ge=1, le=MAX_PARTS)]


class UploadCreate(WireModel):
    """What shall become a version: its metadata, with the size of every file among the announcements.

    Attributes:
        direct: whether parts may go straight to the bucket, where there is one.
    """

    metadata: VersionCreate
    direct: bool = True


class PlannedFile(AnswerModel):
    """A file of an upload. It is sent in parts of `part_bytes`, of which the last may be shorter.

    `missing` are first and last numbers of the parts that are not there, counted from 1.
    """

    path: str
    size_bytes: int
    part_bytes: int
    missing: list[tuple[int, int]]


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


class PartRequest(AnswerModel):
    """The request that sends one part: the file's bytes from `offset`, `length` of them.

    `url` is a path where the service itself takes the part. With `expires_at` the request is good until then.
    """

    number: int
    offset: int
    length: int
    method: str
    url: str
    headers: dict[str, str]
    expires_at: datetime | None = None


class PartRequests(AnswerModel):
    """How to send the parts that were asked for, in the order asked."""

    parts: list[PartRequest]
