"""What the catalog tells those who look after what is stored: the collector, and `fsck`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GarbageCount:
    """What a collection would find now, in numbers and bytes.

    Attributes:
        purgeable_versions: deleted versions whose grace period is over.
        expired_writes: writes whose time is up.
        unused_objects: what no version and no open upload will hold once those versions are purged.
        unused_bytes: of these objects.
        expired_keys: `Idempotency-Key`s that nobody may repeat any more.
    """

    purgeable_versions: int
    expired_writes: int
    unused_objects: int
    unused_bytes: int
    expired_keys: int


@dataclass(frozen=True, slots=True)
class CheckedExtent:
    """An extent, and of its object the team and the size in bytes; None where the object is gone."""

    position: int
    offset: int
    length: int
    team: str | None
    object_bytes: int | None


@dataclass(frozen=True, slots=True)
class CheckedArtifact:
    """An artifact with its extents, in order."""

    artifact_id: int
    team: str
    model: str
    number: int
    path: str
    size_bytes: int
    extents: tuple[CheckedExtent, ...]


@dataclass(frozen=True, slots=True)
class Holders:
    """The first artifacts that have something, as `team/model:number/path`, and how many there are beside these."""

    named: tuple[str, ...]
    more: int
