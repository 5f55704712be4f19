"""Objects that are partly dead: which they are, and putting what is left of one in the place of it."""

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, delete, exists, select, update
from sqlalchemy.orm import Session

from registry.formats.source import ByteRange
from storage.metadata.binding import insert_object
from storage.metadata.checking import stored_object
from storage.metadata.due import note_holders_due
from storage.metadata.garbage import DOOM_DELAY, doom_locations
from storage.metadata.pushes import take_writes
from storage.metadata.records import Pack, Shrunk, StoredObject
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.tables import ExtentRow, ObjectRow, StorageRow, UploadPinRow
from storage.metadata.tile_lists import decode_tiles


class Repacking(Transactional):
    """The part of the catalog that knows objects of which a purge let go."""

    @reads
    def find_shrunk(self, session: Session, after_id: int) -> Shrunk | None:
        """Return the next object, by its number, of which a purge let go, undamaged and promised to no upload."""
        which = ObjectRow.id > after_id, ObjectRow.shrunk_at.is_not(None), ObjectRow.damaged_at.is_(None), ~_pinned()
        row = session.scalars(select(ObjectRow).where(*which).order_by(ObjectRow.id).limit(1)).one_or_none()
        if row is None or row.shrunk_at is None:
            return None
        return Shrunk(stored_object(row), row.shrunk_at, tuple(_find_live(session, row.id)))

    @writes
    def keep_shrunk(self, session: Session, shrunk: Shrunk) -> None:
        """Take down that an object was looked at and stays, unless another purge let go of it meanwhile."""
        same = ObjectRow.id == shrunk.stored.object_id, ObjectRow.shrunk_at == shrunk.shrunk_at
        kept = update(ObjectRow).where(*same).values(shrunk_at=None)
        session.execute(kept.execution_options(synchronize_session=False))

    @writes
    def replace_object(self, session: Session, old: StoredObject, live: Sequence[ByteRange], new: Pack) -> bool:
        """Put what is left of an object in the place of it, one range behind the other; return False where it changed.

        It changed when it lies elsewhere, is damaged, is promised to an upload, or has artifacts of more than was left.
        The old bytes are doomed: whoever reads them has until then.
        """
        locked = select(ObjectRow).where(ObjectRow.id == old.object_id).with_for_update()
        row = session.scalars(locked.execution_options(populate_existing=True)).one_or_none()
        if row is None or row.location != old.location or row.damaged_at is not None:
            return False
        is_pinned = session.scalar(select(exists().where(UploadPinRow.object_id == row.id)))
        if is_pinned or not _is_within(_find_live(session, row.id), live):
            return False
        now = utc_now()
        tiles = decode_tiles(session.scalar(select(ObjectRow.tiles).where(ObjectRow.id == row.id)))
        moved = [
            tile._replace(offset=target + tile.offset - offset)
            for offset, length, target in _moves(live)
            for tile in tiles
            if offset <= tile.offset and tile.offset + tile.length <= offset + length
        ]
        object_id = insert_object(session, old.team, new, moved, now)
        if object_id is None:
            row.shrunk_at = None  # what is left of it is an object already: it would be copied in vain each time
            return False
        take_writes(session, [new.location])
        _move(session, row.id, object_id, live)
        session.execute(delete(ObjectRow).where(ObjectRow.id == row.id))
        doom_locations(session, [old.location], now + DOOM_DELAY)
        note_holders_due(session, object_id)
        return True


def _move(session: Session, old_id: int, new_id: int, live: Sequence[ByteRange]) -> None:
    """Make extents and storages of the old object's ranges those of the new one."""
    for offset, length, target in _moves(live):
        for row in (ExtentRow, StorageRow):
            within = row.object_id == old_id, row.offset >= offset, row.offset + row.length <= offset + length
            moved = update(row).where(*within).values(object_id=new_id, offset=row.offset - (offset - target))
            session.execute(moved.execution_options(synchronize_session=False))


def _moves(live: Sequence[ByteRange]) -> Iterator[tuple[int, int, int]]:
    """Yield where each range begins, its length, and where it begins when all lie one behind the other."""
    target = 0
    for offset, length in live:
        yield offset, length, target
        target += length


def _find_live(session: Session, object_id: int) -> list[ByteRange]:
    """Return what artifacts have of an object: ranges in order, apart."""
    query = select(ExtentRow.offset, ExtentRow.length).where(ExtentRow.object_id == object_id).distinct()
    live: list[ByteRange] = []
    for offset, length in session.execute(query.order_by(ExtentRow.offset)):
        if live and offset <= sum(live[-1]):
            start, before = live[-1]
            live[-1] = start, max(before, offset + length - start)
        else:
            live.append((offset, length))
    return live


def _is_within(ranges: Sequence[ByteRange], wider: Sequence[ByteRange]) -> bool:
    """Return whether each of some ranges lies within one of the others."""
    return all(
        any(offset <= start and start + length <= offset + size for offset, size in wider) for start, length in ranges
    )


def _pinned() -> ColumnElement[bool]:
    return exists().where(UploadPinRow.object_id == ObjectRow.id)
