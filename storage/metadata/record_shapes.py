"""What a record holds: all that is known of a version, or of a model, apart from who may do what."""

from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from registry.schema import VersionInfo
from registry.teams import Visibility

RECORD_FORMAT = 1


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RecordedExtent(_Recorded):
    """A byte range of an object: where the object is, its digest and size, and the range."""

    location: str
    sha256: str
    object_bytes: int
    offset: int
    length: int


class RecordedAlias(_Recorded):
    """An alias that points at the version."""

    name: str
    revision: int
    updated_at: datetime
    updated_by: str


class RecordedBase(_Recorded):
    """The version that this one was fine-tuned from, as it was resolved."""

    team: str
    model: str
    number: int


class VersionRecord(_Recorded):
    """A version: what the service tells of it, and where its bytes are, by artifact path."""

    weighbridge_record: Literal[1] = RECORD_FORMAT
    registry_id: str
    version: VersionInfo
    deleted_by: str | None = None
    base: RecordedBase | None = None
    aliases: list[RecordedAlias] = []
    extents: dict[str, list[RecordedExtent]]


class ModelRecord(_Recorded):
    """A model without its versions. `version_counter` is the highest number that was ever given.

    When it last changed is left out: whatever happens to a version changes that.
    """

    weighbridge_record: Literal[1] = RECORD_FORMAT
    registry_id: str
    team: str
    model: str
    description: str = ""
    visibility: Visibility = "team"
    tags: dict[str, str] = {}
    version_counter: int
    created_at: datetime
    created_by: str
    deleted_at: datetime | None = None
    deleted_by: str | None = None


Record: TypeAlias = VersionRecord | ModelRecord


def record_name(team: str, model: str, number: int) -> str:
    """Return how a record is called in the blob store; the model's own has the number 0."""
    return f"{team}/{model}/{number or 'model'}.json"


def encode_record(record: Record) -> bytes:
    """Return a record as it is stored: the same rows always give the same bytes."""
    left_out = {"version": {"artifacts": {"__all__": {"marked_globals"}}}}
    return record.model_dump_json(indent=1, exclude=left_out if isinstance(record, VersionRecord) else None).encode()
