"""What travels when somebody asks where bytes live: `POST …/versions/{v}/reads`. The answer holds for minutes."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from registry.fields import AnswerModel, WireModel

MAX_RUN_BYTES = 64 << 20
"""Of one run: little is lost with a connection that breaks, and at 0.25 MB/s one run ends before its URL does."""
MAX_RUNS = 1024
"""Of one answer, 64 GiB: more could not be read before the URLs end."""
MAX_READ_ARTIFACTS = 100
MAX_READ_RANGES = MAX_RUNS
_Bytes: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]


class ArtifactRanges(WireModel):
    """Ranges of an artifact, each as offset and length in bytes; None means all of it."""

    path: Annotated[str, Field(max_length=1_000)]
    ranges: (
        Annotated[list[tuple[_Bytes, Annotated[_Bytes, Field(ge=1)]]], Field(min_length=1, max_length=MAX_READ_RANGES)]
        | None
    ) = None


class ReadsQuery(WireModel):
    """What shall be read of one version; `direct`: from the bucket itself, where there is one that may be asked."""

    artifacts: Annotated[list[ArtifactRanges], Field(min_length=1, max_length=MAX_READ_ARTIFACTS)]
    direct: bool = True


class ReadRun(AnswerModel):
    """One request that brings `length` bytes of the artifact `path`, beginning at `offset`, as a 206.

    `url` is absolute where it leads to a bucket: it takes exactly `headers`, and never the service's token, until
    `expires_at`. Else it is relative to the service's URL, takes the token, and does not end.
    """

    path: str
    offset: int
    length: int
    method: Literal["GET"] = "GET"
    url: str
    headers: dict[str, str]
    expires_at: datetime | None = None


class ReadPlan(AnswerModel):
    """Runs that together are what was asked for, in that order, of the version with this number."""

    version: int
    runs: list[ReadRun]
