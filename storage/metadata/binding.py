"""Binding digests to locations: a team's objects, where its storages lie, and manifests under their digests."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from registry.errors import PlanStaleError
from registry.tiles import Tile
from storage.metadata.due import note_holders_due
from storage.metadata.garbage import DOOM_DELAY, doom_locations
from storage.metadata.records import NewArtifact, NewStorage, NewVersion, Pack, Source
from storage.metadata.session import insert_for
from storage.metadata.tables import ManifestRow, ObjectRow, StorageRow
from storage.metadata.tile_lists import decode_tiles, encode_tiles

ObjectT = TypeVar("ObjectT", int, int | None)
_BATCH = 1000


class Bound(NamedTuple):
    """A byte range of an object's row."""

    object_id: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Fresh:
    """Bytes that were written for this version, what can be reused of them, and that in their own places."""

    location: str
    sha256: str
    size_bytes: int
    storages: Sequence[NewStorage]
    tiles: Sequence[Tile]


def bind_objects(session: Session, new: NewVersion, now: datetime) -> list[list[Bound]]:
    """Return where each artifact lies, in objects of the team; new ones where the team had none with the digest.

    Objects are taken in digest order, by a caller that has the lock of the model's row, so that rivals cannot deadlock.
    What was written a second time is doomed; where the first bytes are damaged, the fresh ones take their place.
    Storages that the team did not have yet can be reused from now on; nothing of what is in quarantine ever is.

    Raises:
        PlanStaleError: what an artifact was to reuse is damaged, or elsewhere, since it was read.
    """
    whole = _find_whole(session, new)
    every = [fresh for artifact in new.artifacts if (fresh := _fresh(artifact)) is not None]
    needed = {each.sha256: each for each in reversed(every) if each.sha256 not in whole}
    sources = {
        source.sha256: source
        for artifact in new.artifacts
        if artifact.assembly is not None and artifact.info.sha256 not in whole
        for source in artifact.assembly.sources
    }
    objects: dict[str, int] = {}
    used: set[str] = set()
    for sha256 in sorted({*needed, *sources, *whole}):
        if sha256 in needed:
            objects[sha256], is_used = _bind(session, new, needed[sha256], now)
            used |= {needed[sha256].location} if is_used else set()
        if sha256 in sources:
            _hold(session, new.team, sources[sha256])
        if sha256 in whole:
            objects[sha256] = _take_whole(session, new.team, sha256)
    doom_locations(session, [each.location for each in every if each.location not in used], now)
    return [_places(artifact, objects) for artifact in new.artifacts]


def _fresh(artifact: NewArtifact) -> _Fresh | None:
    """Return what was written for an artifact; None where all of it was stored before."""
    assembly, info = artifact.assembly, artifact.info
    if assembly is None:
        return _Fresh(artifact.location, info.sha256, info.size_bytes, artifact.storages, artifact.tiles)
    if assembly.pack is None:
        return None
    extents = [(each.object_id, each.offset, each.length) for each in assembly.extents]
    storages, tiles = dict(contents(artifact, extents)).get(None, ([], []))
    return _Fresh(assembly.pack.location, assembly.pack.sha256, assembly.pack.size_bytes, storages, tiles)


def _find_whole(session: Session, new: NewVersion) -> set[str]:
    """Return the digests of assembled artifacts that the team has, undamaged, as one object each."""
    assembled = {artifact.info.sha256 for artifact in new.artifacts if artifact.assembly is not None}
    if not assembled:
        return set()
    same = ObjectRow.team == new.team, ObjectRow.sha256.in_(assembled), ObjectRow.damaged_at.is_(None)
    return set(session.scalars(select(ObjectRow.sha256).where(*same)))


def _bind(session: Session, new: NewVersion, fresh: _Fresh, now: datetime) -> tuple[int, bool]:
    """Return the team's object with a digest, and whether it lies where the fresh bytes are."""
    is_kept = new.trust != "unsafe"  # what is in quarantine is never a source of reuse
    pack = Pack(fresh.location, fresh.sha256, fresh.size_bytes)
    inserted = insert_object(session, new.team, pack, fresh.tiles if is_kept else (), now)
    if inserted is None:
        return _take_object(session, new.team, fresh, now)
    if is_kept:
        insert_storages(session, new.team, fresh.storages, inserted)
    return inserted, True


def insert_object(session: Session, team: str, fresh: Pack, tiles: Sequence[Tile], now: datetime) -> int | None:
    """Insert an object and return its number; None where the team has one with that digest."""
    statement = insert_for(session, ObjectRow).values(
        location=fresh.location,
        team=team,
        sha256=fresh.sha256,
        size_bytes=fresh.size_bytes,
        created_at=now,
        tiles=encode_tiles(tiles) if tiles else None,
    )
    conflict = statement.on_conflict_do_nothing(index_elements=[ObjectRow.team, ObjectRow.sha256])
    return session.scalar(conflict.returning(ObjectRow.id))


def _take_object(session: Session, team: str, fresh: _Fresh, now: datetime) -> tuple[int, bool]:
    """Return the object that the team has already, and whether the fresh bytes took the place of damaged ones."""
    same = ObjectRow.team == team, ObjectRow.sha256 == fresh.sha256
    locked = select(ObjectRow).where(*same).with_for_update().execution_options(populate_existing=True)
    known = session.scalars(locked).one()
    known.released_at = None
    is_damaged = known.damaged_at is not None
    if is_damaged:
        doom_locations(session, [known.location], now + DOOM_DELAY)
        known.location, known.damaged_at = fresh.location, None
        session.flush()
        note_holders_due(session, known.id)
    return known.id, is_damaged


def _hold(session: Session, team: str, source: Source) -> None:
    """Keep an object that an artifact reuses from going, if it is still what was read."""
    locked = select(ObjectRow).where(ObjectRow.id == source.object_id).with_for_update(read=True, key_share=True)
    known = session.scalars(locked.execution_options(populate_existing=True)).one_or_none()
    if known is None or known.team != team or known.damaged_at is not None or known.location != source.location:
        raise PlanStaleError("What this upload was to reuse is not there as it was. Push again: it is planned afresh.")
    known.released_at = None


def _take_whole(session: Session, team: str, sha256: str) -> int:
    same = ObjectRow.team == team, ObjectRow.sha256 == sha256
    known = session.scalars(select(ObjectRow).where(*same).with_for_update(read=True, key_share=True)).one()
    known.released_at = None
    return known.id


def _places(artifact: NewArtifact, objects: Mapping[str, int]) -> list[Bound]:
    """Return where an artifact lies: neighbours in one object are one range."""
    assembly = artifact.assembly
    if assembly is None or artifact.info.sha256 in objects:
        return [Bound(objects[artifact.info.sha256], 0, artifact.info.size_bytes)]
    places: list[Bound] = []
    for extent in assembly.extents:
        object_id = extent.object_id
        if object_id is None and assembly.pack is not None:
            object_id = objects[assembly.pack.sha256]
        if object_id is None:
            raise ValueError("an assembly without a pack names one")
        place = Bound(object_id, extent.offset, extent.length)
        last = places[-1] if places else None
        if last is not None and (last.object_id, last.offset + last.length) == (object_id, extent.offset):
            places[-1] = last._replace(length=last.length + extent.length)
        else:
            places.append(place)
    return places


def contents(
    artifact: NewArtifact, places: Sequence[tuple[ObjectT, int, int]]
) -> Iterator[tuple[ObjectT, tuple[list[NewStorage], list[Tile]]]]:
    """Yield, by object, the storages and tiles of an artifact that lie within one of its extents, placed in the object.

    Args:
        artifact: whose storages and tiles have places in itself.
        places: its extents: object, offset and length.
    """
    found: dict[ObjectT, tuple[list[NewStorage], list[Tile]]] = {}
    ordered = sorted(artifact.storages, key=lambda storage: storage.offset)
    start = 0
    for object_id, offset, length in places:
        storages, tiles = found.setdefault(object_id, ([], []))
        shift, end = offset - start, start + length
        first = bisect_left(ordered, start, key=lambda storage: storage.offset)
        last = bisect_left(ordered, end, lo=first, key=lambda storage: storage.offset)
        for each in ordered[first:last]:
            if each.offset + each.length <= end:
                storages.append(NewStorage(each.digest, each.offset + shift, each.length))
        first = bisect_left(artifact.tiles, start, key=lambda tile: tile.offset)
        last = bisect_left(artifact.tiles, end, lo=first, key=lambda tile: tile.offset)
        tiles += (
            tile._replace(offset=tile.offset + shift)
            for tile in artifact.tiles[first:last]
            if tile.offset + tile.length <= end
        )
        start = end
    yield from found.items()


def insert_storages(session: Session, team: str, storages: Sequence[NewStorage], object_id: int) -> None:
    """Insert the storages of an object that the team does not have elsewhere."""
    places = {storage.digest: storage for storage in storages}
    ordered = sorted(places)
    for start in range(0, len(ordered), _BATCH):
        digests = ordered[start : start + _BATCH]
        known = set(
            session.scalars(
                select(StorageRow.digest)
                .join(ObjectRow, ObjectRow.id == StorageRow.object_id)
                .where(StorageRow.team == team, StorageRow.digest.in_(digests))
                .where(ObjectRow.damaged_at.is_(None) | (ObjectRow.id == object_id))
            )
        )
        place = {"team": team, "object_id": object_id}
        rows = [
            {"digest": each, "offset": places[each].offset, "length": places[each].length, **place}
            for each in digests
            if each not in known
        ]
        if rows:
            session.execute(insert(StorageRow), rows)


def add_tiles(session: Session, object_id: int, tiles: Sequence[Tile]) -> None:
    """Take down tiles of an object, beside those that its row keeps."""
    known = decode_tiles(session.scalar(select(ObjectRow.tiles).where(ObjectRow.id == object_id)))
    if not set(tiles) <= set(known):
        more = update(ObjectRow).where(ObjectRow.id == object_id).values(tiles=encode_tiles([*known, *tiles]))
        session.execute(more.execution_options(synchronize_session=False))


def insert_manifests(session: Session, manifests: Mapping[str, bytes]) -> None:
    """Insert compressed manifests by digest, those that are not there yet."""
    for digest, compressed in sorted(manifests.items()):
        statement = insert_for(session, ManifestRow).values(digest=digest, compressed=compressed)
        session.execute(statement.on_conflict_do_nothing())
