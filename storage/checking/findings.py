"""What `fsck` can find, how it is told, and what it means."""

from dataclasses import dataclass
from enum import StrEnum

from storage.metadata.checked import Holders


class Kind(StrEnum):
    """What is wrong."""

    OBJECT_MISSING = "object_missing"
    OBJECT_WRONG_SIZE = "object_wrong_size"
    OBJECT_CHANGED = "object_changed"
    EXTENTS_BROKEN = "extents_broken"
    VERSION_EMPTY = "version_empty"
    MANIFEST_DAMAGED = "manifest_damaged"
    KEY_UNKNOWN = "key_unknown"
    RECORD_MISSING = "record_missing"
    RECORD_STALE = "record_stale"
    RECORD_UNKNOWN = "record_unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: what is wrong.
        where: the object's location, the key, or the version or artifact by reference.
        detail: a sentence on it.
        versions: the artifacts that it harms, as `team/model:number/path`, the first 20.
        more_versions: how many there are beside these.
        repair: what a repair did about it; None where nothing was done.
        is_mended: nothing is wrong any more.
    """

    kind: Kind
    where: str
    detail: str
    versions: tuple[str, ...] = ()
    more_versions: int = 0
    repair: str | None = None
    is_mended: bool = False

    @classmethod
    def of_object(cls, kind: Kind, where: str, detail: str, holders: Holders, repair: str | None = None) -> "Finding":
        """Return what is wrong with an object, and whom it harms."""
        return cls(kind, where, detail, holders.named, holders.more, repair)
