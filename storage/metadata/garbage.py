"""Garbage in the catalog: expired writes, objects that nothing refers to, locations whose bytes may go."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from storage.metadata.checked import GarbageCount
from storage.metadata.checking import stored_object
from storage.metadata.columns import Base
from storage.metadata.records import Collected, StoredObject
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.tables import (
    ArtifactRow,
    DoomedRow,
    ExtentRow,
    IdempotencyKeyRow,
    LeaseRow,
    ModelRow,
    ObjectRow,
    UploadPinRow,
    VersionRow,
    WriteIntentRow,
)

DOOM_DELAY = timedelta(minutes=10)
"""How long the bytes of an object outlive its row: longer than any URL that reads them (5 minutes)."""
_BATCH = 1000


class Garbage(Transactional):
    """The part of the catalog that knows what may be thrown away, and who is doing it."""

    @writes
    def doom_expired_writes(self, session: Session, now: datetime, limit: int) -> int:
        """Doom the locations of writes whose time is up, and return how many."""
        expired = select(WriteIntentRow.location).where(WriteIntentRow.expires_at <= now)
        chosen = expired.order_by(WriteIntentRow.expires_at).limit(limit)
        return end_writes(session, WriteIntentRow.location.in_(chosen), WriteIntentRow.expires_at <= now)

    @writes
    def doom_unused_objects(self, session: Session, now: datetime, limit: int) -> Collected:
        """Doom objects that no artifact and no open upload refers to; their bytes stay for `DOOM_DELAY`."""
        unused = select(ObjectRow.id).where(*_unused()).order_by(ObjectRow.id).limit(limit)
        free = session.scalars(unused.with_for_update(skip_locked=True)).all()  # somebody is about to use the others
        return doom_objects(session, ObjectRow.id.in_(free), now + DOOM_DELAY)

    @reads
    def list_doomed(
        self, session: Session, now: datetime, limit: int, *, among: Sequence[str] | None = None
    ) -> list[str]:
        """Return locations whose bytes may go now; with `among`, only those of them."""
        due = select(DoomedRow.location).where(DoomedRow.not_before <= now)
        if among is not None:
            due = due.where(DoomedRow.location.in_(among))
        return list(session.scalars(due.order_by(DoomedRow.not_before).limit(limit)))

    @reads
    def count_garbage(self, session: Session, now: datetime, deleted_before: datetime) -> GarbageCount:
        """Return how much a collection would find now, when it purges what was deleted before a moment."""

        def count(row: type[Base], *which: ColumnElement[bool]) -> int:
            return session.scalar(select(func.count()).select_from(row).where(*which)) or 0

        gone_at = func.coalesce(VersionRow.deleted_at, ModelRow.deleted_at)
        purgeable = select(func.count()).select_from(VersionRow).join(ModelRow, ModelRow.id == VersionRow.model_id)
        holders = (
            select(ExtentRow.object_id)
            .join(ArtifactRow, ArtifactRow.id == ExtentRow.artifact_id)
            .join(VersionRow, VersionRow.id == ArtifactRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(ExtentRow.object_id == ObjectRow.id, gone_at.is_(None) | (gone_at >= deleted_before))
        )
        sizes = select(func.count(), func.coalesce(func.sum(ObjectRow.size_bytes), 0)).select_from(ObjectRow)
        objects, size_bytes = session.execute(sizes.where(~holders.exists(), _unpinned())).one()
        return GarbageCount(
            purgeable_versions=session.scalar(purgeable.where(VersionRow.purged_at.is_(None), gone_at < deleted_before))
            or 0,
            expired_writes=count(WriteIntentRow, WriteIntentRow.expires_at <= now),
            unused_objects=objects,
            unused_bytes=int(size_bytes),
            expired_keys=count(IdempotencyKeyRow, IdempotencyKeyRow.expires_at <= now),
        )

    @reads
    def sum_unexplained(self, session: Session) -> int:
        """Return how many bytes nothing holds though no purge let go of them.

        A purge dooms what it frees, in its own transaction, and marks what an open upload still holds. So what nothing
        holds without that mark was not deleted by anybody: rows that held it were lost.
        """
        lost = select(func.sum(ObjectRow.size_bytes)).where(*_unused(), ObjectRow.released_at.is_(None))
        return int(session.scalar(lost) or 0)

    @reads
    def sum_stored(self, session: Session) -> int:
        """Return how many bytes all objects have: walks their whole table."""
        return int(session.scalar(select(func.sum(ObjectRow.size_bytes))) or 0)

    @reads
    def list_removable(self, session: Session, now: datetime, after: str, limit: int) -> list[str]:
        """Return locations, in order, whose bytes a collection would remove: doomed ones and those of ended writes."""
        doomed = select(DoomedRow.location).where(DoomedRow.not_before <= now, DoomedRow.location > after)
        ended = select(WriteIntentRow.location).where(WriteIntentRow.expires_at <= now, WriteIntentRow.location > after)
        both = doomed.union(ended).subquery()
        return list(session.scalars(select(both.c.location).order_by(both.c.location).limit(limit)))

    @writes
    def forget_doomed(self, session: Session, locations: Sequence[str]) -> None:
        """Forget locations whose bytes are gone."""
        session.execute(delete(DoomedRow).where(DoomedRow.location.in_(locations)))

    @reads
    def find_known(self, session: Session, locations: Sequence[str]) -> set[str]:
        """Return which of the locations some row knows: as an object, a running write or a doomed one."""
        return {
            location
            for row in (ObjectRow, WriteIntentRow, DoomedRow)
            for location in session.scalars(select(row.location).where(row.location.in_(locations)))
        }

    def is_known(self, location: str) -> bool:
        """Return whether some row knows the location."""
        return bool(self.find_known([location]))

    def iter_objects(self) -> Iterator[StoredObject]:
        """Yield every object, in short transactions; those published meanwhile may be among them."""
        last = 0
        while True:
            last, batch = self._objects_after(last)
            yield from batch
            if len(batch) < _BATCH:
                return

    @reads
    def _objects_after(self, session: Session, last: int) -> tuple[int, list[StoredObject]]:
        rows = session.scalars(select(ObjectRow).where(ObjectRow.id > last).order_by(ObjectRow.id).limit(_BATCH)).all()
        found = [stored_object(row) for row in rows]
        return (rows[-1].id if rows else last), found

    @writes
    def acquire_lease(self, session: Session, name: str, holder: str, until: datetime) -> bool:
        """Take or extend a lease; return whether the holder has it now."""
        statement = insert_for(session, LeaseRow).values(name=name, holder=holder, until=until)
        free = (LeaseRow.until <= utc_now()) | (LeaseRow.holder == holder)
        taken = statement.on_conflict_do_update(
            index_elements=[LeaseRow.name], set_={"holder": holder, "until": until}, where=free
        )
        return session.scalar(taken.returning(LeaseRow.name)) is not None

    @writes
    def release_lease(self, session: Session, name: str, holder: str) -> None:
        """Give a lease back; one that somebody else holds stays."""
        session.execute(delete(LeaseRow).where(LeaseRow.name == name, LeaseRow.holder == holder))


def end_writes(session: Session, *which: ColumnElement[bool]) -> int:
    """Delete intent rows and doom their locations at once: nobody was ever told of them. Return how many."""
    ended = session.scalars(delete(WriteIntentRow).where(*which).returning(WriteIntentRow.location)).all()
    doom_locations(session, ended, utc_now())
    return len(ended)


def lock_objects(session: Session, ids: Select[int]) -> Sequence[int]:
    """Return the numbers of objects that nobody else can use or doom before this transaction ends.

    Whoever takes more than one takes them in the order of their digests, and their model's row before, so that nobody
    waits for somebody who waits in turn.
    """
    locked = select(ObjectRow.id).where(ObjectRow.id.in_(ids)).order_by(ObjectRow.sha256).with_for_update()
    return session.scalars(locked).all()


def doom_objects(session: Session, which: ColumnElement[bool], not_before: datetime) -> Collected:
    """Delete those of the objects that nothing refers to, and doom their locations.

    The foreign keys are the proof: when an extent or a pin appeared meanwhile, the transaction fails and is repeated.
    """
    statement = delete(ObjectRow).where(which, *_unused()).returning(ObjectRow.location, ObjectRow.size_bytes)
    gone = session.execute(statement.execution_options(synchronize_session=False)).all()
    doom_locations(session, [row.location for row in gone], not_before)
    return Collected(len(gone), sum(row.size_bytes for row in gone))


def let_go(session: Session, objects: Sequence[int], not_before: datetime) -> Collected:
    """Doom those of some objects that nothing refers to any more; take down of the others that some of them is let go.

    Args:
        session: of the transaction that took extents away.
        objects: which they were of, locked.
        not_before: when the bytes may go.
    """
    doomed = doom_objects(session, ObjectRow.id.in_(objects), not_before)
    held_by_versions = exists().where(ExtentRow.object_id == ObjectRow.id)
    for held, when in ((~held_by_versions, ObjectRow.released_at), (held_by_versions, ObjectRow.shrunk_at)):
        told = update(ObjectRow).where(ObjectRow.id.in_(objects), held).values({when: utc_now()})
        session.execute(told.execution_options(synchronize_session=False))
    return doomed


def doom_locations(session: Session, locations: Sequence[str], not_before: datetime) -> None:
    """Write down that the bytes at these locations go at `not_before` or later."""
    if locations:
        rows = [{"location": location, "not_before": not_before} for location in locations]
        session.execute(insert(DoomedRow), rows)


def _unused() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ~exists().where(ExtentRow.object_id == ObjectRow.id), _unpinned()


def _unpinned() -> ColumnElement[bool]:
    return ~exists().where(UploadPinRow.object_id == ObjectRow.id)
