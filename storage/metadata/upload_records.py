"""What the catalog says of planned uploads."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from registry.tiles import Tile
from registry.uploads import UploadState
from storage.metadata.records import PlannedExtent


@dataclass(frozen=True, slots=True)
class PlannedFileRecord:
    """A file of an upload, and where its parts are gathered.

    Attributes:
        part_bytes: of every part but the last.
        multipart_id: what the blob store calls the gathering.
        extents: how it will lie, where some of it is stored: what is sent is gathered as a pack. None sends all of it.
        claimed: the tiles that it shall have, where no digest of all of it was announced.
    """

    path: str
    size_bytes: int
    part_bytes: int
    location: str
    multipart_id: str
    extents: tuple[PlannedExtent, ...] | None = None
    claimed: tuple[Tile, ...] = ()

    @property
    def send_bytes(self) -> int:
        """How many bytes of it are sent."""
        if self.extents is None:
            return self.size_bytes
        return sum(extent.length for extent in self.extents if extent.object_id is None)

    @property
    def object_ids(self) -> set[int]:
        """The objects that it reuses."""
        return {extent.object_id for extent in self.extents or () if extent.object_id is not None}

    @property
    def part_count(self) -> int:
        """How many parts it is sent in."""
        return -(-self.send_bytes // self.part_bytes)

    def place(self, number: int) -> tuple[int, int]:
        """Return offset and length in bytes of part `number`, counted from 1, in what is sent."""
        offset = (number - 1) * self.part_bytes
        return offset, min(self.part_bytes, self.send_bytes - offset)


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """A planned upload.

    Attributes:
        fingerprint: digest of what was asked for; a key that comes again with another one is refused.
        document: the `VersionCreate` that was sent, as JSON.
        number: of the version that it became.
        problem: why it failed.
        lease_until: until when somebody verifies it.
    """

    id: str
    team: str
    model: str
    created_by: str
    key: str | None
    fingerprint: str
    direct: bool
    document: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    files: tuple[PlannedFileRecord, ...]
    state: UploadState = "open"
    number: int | None = None
    problem: dict[str, Any] | None = None
    lease_until: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether parts of it can be sent."""
        return self.state == "open"

    @property
    def locations(self) -> list[str]:
        """Where its bytes are gathered."""
        return [each.location for each in self.files if each.send_bytes]

    @property
    def object_ids(self) -> list[int]:
        """The objects that it reuses, in the order in which they are pinned."""
        return sorted({object_id for each in self.files for object_id in each.object_ids})
