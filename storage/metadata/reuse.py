"""What a team has stored already, by digest. Another team's rows are never looked at, so nothing tells of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from registry.tiles import Tile
from storage.metadata.lookup import visible
from storage.metadata.records import Sight, Source
from storage.metadata.session import Transactional, reads
from storage.metadata.tables import ArtifactRow, ExtentRow, ModelRow, ObjectRow, StorageRow, VersionRow
from storage.metadata.tile_lists import decode_tiles

MAX_CONSIDERED = 64
"""Objects that a plan looks at: those that have most of a file."""
MAX_TILES_CONSIDERED = 50_000
"""Of all objects together, which is what a plan holds in memory; of the others only storages are reused."""
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object that has some of what is asked for: where these storages lie, and how it is cut, if its row says so."""

    object_id: int
    places: dict[str, int] = field(default_factory=dict[str, int])
    tiles: list[Tile] = field(default_factory=list[Tile])


class Reuse(Transactional):
    """The part of the catalog that knows what need not be sent again."""

    def find_reusable(self, team: str, lengths: Mapping[str, int], sight: Sight) -> list[KnownObject]:
        """Return undamaged objects of a team that hold storages with these digests, those with most of them first.

        Args:
            team: whose.
            lengths: of the storages, in bytes, by digest.
            sight: what the caller may read; objects that only other models hold are left out.
        """
        found: list[KnownObject] = []
        room = MAX_TILES_CONSIDERED
        for object_id, places, data in self._find_reusable(team, lengths, sight):
            tiles = decode_tiles(data) if room > 0 else []
            room -= len(tiles)
            found.append(KnownObject(object_id, places, tiles))
        return found

    @reads
    def _find_reusable(
        self, session: Session, team: str, lengths: Mapping[str, int], sight: Sight
    ) -> list[tuple[int, dict[str, int], bytes | None]]:
        ordered = sorted(lengths)
        found: dict[int, dict[str, int]] = {}
        for start in range(0, len(ordered), _BATCH):
            query = (
                select(StorageRow.digest, StorageRow.object_id, StorageRow.offset, StorageRow.length)
                .join(ObjectRow, ObjectRow.id == StorageRow.object_id)
                .where(StorageRow.team == team, StorageRow.digest.in_(ordered[start : start + _BATCH]))
                .where(ObjectRow.team == team, ObjectRow.damaged_at.is_(None))
            )
            if sight.targets and team not in sight.targets:
                query = query.where(_is_read(sight))
            for row in session.execute(query):
                if row.length == lengths[row.digest]:
                    found.setdefault(row.object_id, {})[row.digest] = row.offset
        sizes = {each: sum(lengths[digest] for digest in places) for each, places in found.items()}
        chosen = sorted(found, key=lambda each: (-sizes[each], each))[:MAX_CONSIDERED]
        if not chosen:
            return []
        rows = session.execute(select(ObjectRow.id, ObjectRow.tiles).where(ObjectRow.id.in_(chosen)))
        tiles = {row.id: row.tiles for row in rows}
        return [(each, found[each], tiles[each]) for each in chosen]

    @reads
    def find_sources(self, session: Session, team: str, object_ids: Collection[int]) -> dict[int, Source]:
        """Return those of the objects that are there, of the team and undamaged, and where they lie now."""
        which = ObjectRow.id.in_(object_ids), ObjectRow.team == team, ObjectRow.damaged_at.is_(None)
        query = select(ObjectRow.id, ObjectRow.sha256, ObjectRow.location, ObjectRow.size_bytes).where(*which)
        return {row.id: Source(row.id, row.sha256, row.location, row.size_bytes) for row in session.execute(query)}

    @reads
    def list_tiles(self, session: Session, object_id: int) -> list[Tile]:
        """Return the tiles of an object by their places in it; of one whose row keeps none, its storages."""
        tiles = decode_tiles(session.scalar(select(ObjectRow.tiles).where(ObjectRow.id == object_id)))
        rows = select(StorageRow.offset, StorageRow.length, StorageRow.digest).where(StorageRow.object_id == object_id)
        return tiles or [Tile(*row) for row in session.execute(rows.order_by(StorageRow.offset))]


def _is_read(sight: Sight) -> ColumnElement[bool]:
    """Return the condition of an object that some model holds which the caller may read."""
    holders = (
        exists()
        .where(ExtentRow.object_id == ObjectRow.id)
        .where(ArtifactRow.id == ExtentRow.artifact_id)
        .where(VersionRow.id == ArtifactRow.version_id)
        .where(ModelRow.id == VersionRow.model_id)
    )
    for condition in visible(sight):
        holders = holders.where(condition)
    return holders
