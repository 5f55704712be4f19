"""Planned uploads in the catalog: from the plan to the version, one holder at a time verifying."""

from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from registry.errors import PlanStaleError
from registry.uploads import UploadState
from storage.metadata.garbage import end_writes
from storage.metadata.pushes import KEY_LIFETIME, write_expired
from storage.metadata.records import PlannedExtent
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.tables import ObjectRow, UploadPinRow, WriteIntentRow
from storage.metadata.tile_lists import decode_tiles, encode_tiles
from storage.metadata.upload_records import PlannedFileRecord, UploadRecord
from storage.metadata.upload_tables import UploadFileRow, UploadRow

_RUNNING = ("open", "verifying")


class Uploads(Transactional):
    """The part of the catalog that knows planned uploads."""

    @writes
    def add_upload(self, session: Session, upload: UploadRecord) -> UploadRecord:
        """Keep a plan with pins on all that it reuses, and return it; where its key is taken, the upload that has it.

        Raises:
            PlanStaleError: something that it reuses has gone since it was looked up, or is damaged.
        """
        values = {name: getattr(upload, name) for name in _COLUMNS}
        fresh = insert_for(session, UploadRow).values(values).on_conflict_do_nothing().returning(UploadRow.id)
        if session.scalar(fresh) is None:
            return _record(session, session.scalars(select(UploadRow).where(*_with_key(upload))).one())
        rows = [
            {
                "upload_id": upload.id,
                "position": position,
                "path": each.path,
                "size_bytes": each.size_bytes,
                "part_bytes": each.part_bytes,
                "location": each.location,
                "multipart_id": each.multipart_id,
                "extents": None if each.extents is None else [list(astuple(extent)) for extent in each.extents],
                "claimed": encode_tiles(each.claimed) if each.claimed else None,
            }
            for position, each in enumerate(upload.files)
        ]
        session.execute(insert(UploadFileRow), rows)
        _pin(session, upload)
        return upload

    @reads
    def find_upload(self, session: Session, upload_id: str) -> UploadRecord | None:
        """Return an upload, None if there is none of that id."""
        row = session.get(UploadRow, upload_id)
        return None if row is None else _record(session, row)

    @reads
    def find_upload_by_key(self, session: Session, by: str, team: str, model: str, key: str) -> UploadRecord | None:
        """Return the upload that somebody planned with an `Idempotency-Key`."""
        which = UploadRow.created_by == by, UploadRow.team == team, UploadRow.model == model, UploadRow.key == key
        row = session.scalars(select(UploadRow).where(*which)).one_or_none()
        return None if row is None else _record(session, row)

    @reads
    def count_open_uploads(self, session: Session, by: str) -> int:
        """Return how many uploads of somebody have not ended."""
        running = UploadRow.created_by == by, UploadRow.state.in_(_RUNNING), UploadRow.expires_at > utc_now()
        return session.scalar(select(func.count()).select_from(UploadRow).where(*running)) or 0

    @writes
    def renew_upload(self, session: Session, upload: UploadRecord, expires_at: datetime) -> None:
        """Give an open upload more time: its parts are coming.

        Raises:
            UnavailableError: its bytes are doomed already.
        """
        still_open = UploadRow.id == upload.id, UploadRow.state == "open"
        session.execute(update(UploadRow).where(*still_open).values(expires_at=expires_at))
        _renew_writes(session, upload, expires_at)

    @writes
    def begin_verifying(self, session: Session, upload_id: str, holder: str, lease_until: datetime) -> bool:
        """Return whether the holder verifies the upload now: it was open, or whoever did gave no sign of life."""
        free = or_(UploadRow.state == "open", (UploadRow.state == "verifying") & (UploadRow.lease_until <= utc_now()))
        taken = (
            update(UploadRow)
            .where(UploadRow.id == upload_id, free)
            .values(state="verifying", lease_holder=holder, lease_until=lease_until)
            .returning(UploadRow.id)
        )
        return session.scalar(taken) is not None

    @writes
    def extend_verifying(self, session: Session, upload: UploadRecord, holder: str, lease_until: datetime) -> None:
        """Say that the verification goes on.

        Raises:
            UnavailableError: somebody else has taken it over, or its bytes are doomed.
        """
        ours = UploadRow.id == upload.id, UploadRow.state == "verifying", UploadRow.lease_holder == holder
        later = max(lease_until, upload.expires_at)
        kept = update(UploadRow).where(*ours).values(lease_until=lease_until, expires_at=later).returning(UploadRow.id)
        if session.scalar(kept) is None:
            raise write_expired()
        _renew_writes(session, upload, later)

    @writes
    def release_verifying(self, session: Session, upload_id: str, holder: str) -> None:
        """Let somebody else verify it: what was needed was away."""
        ours = UploadRow.id == upload_id, UploadRow.state == "verifying", UploadRow.lease_holder == holder
        session.execute(update(UploadRow).where(*ours).values(lease_until=utc_now()))

    @writes
    def end_upload(
        self,
        session: Session,
        upload: UploadRecord,
        state: UploadState,
        problem: dict[str, Any] | None = None,
        holder: str | None = None,
    ) -> bool:
        """End an upload that becomes no version, and doom its bytes; return False where it had ended already.

        `holder` is who verifies it; without one, an upload that somebody verifies goes on, and False is returned.
        """
        mine = (UploadRow.state == "verifying") & (UploadRow.lease_holder == holder)
        which = UploadRow.id == upload.id, mine if holder else _unheld()
        ended = update(UploadRow).where(*which).values(_ending(state, problem)).returning(UploadRow.id)
        if session.scalar(ended) is None:
            return False
        end_writes(session, WriteIntentRow.location.in_(upload.locations))
        _unpin(session, [upload.id])
        return True

    @writes
    def expire_uploads(self, session: Session, now: datetime, limit: int) -> int:
        """End uploads whose time is up, doom their bytes, and return how many there were."""
        due = select(UploadRow.id).where(UploadRow.state.in_(_RUNNING), UploadRow.expires_at <= now, _unheld())
        chosen = due.order_by(UploadRow.expires_at).limit(limit)
        ended = update(UploadRow).where(UploadRow.id.in_(chosen), _unheld(), UploadRow.expires_at <= now)
        expired = session.scalars(ended.values(_ending("expired", None)).returning(UploadRow.id)).all()
        locations = select(UploadFileRow.location).where(UploadFileRow.upload_id.in_(expired))
        end_writes(session, WriteIntentRow.location.in_(locations))
        _unpin(session, expired)
        return len(expired)

    @writes
    def forget_uploads(self, session: Session, now: datetime, limit: int) -> int:
        """Forget uploads that ended long ago, and return how many."""
        old = select(UploadRow.id).where(UploadRow.state.not_in(_RUNNING), UploadRow.expires_at <= now).limit(limit)
        chosen = list(session.scalars(old))
        session.execute(delete(UploadFileRow).where(UploadFileRow.upload_id.in_(chosen)))
        session.execute(delete(UploadRow).where(UploadRow.id.in_(chosen)))
        return len(chosen)


def find_published(session: Session, upload_id: str, holder: str) -> int | None:
    """Return the number of the version that an upload became; None while the holder may publish it.

    The row is locked until this transaction ends.

    Raises:
        UnavailableError: somebody else verifies it by now, or it has ended.
    """
    row = session.get(UploadRow, upload_id, with_for_update=True, populate_existing=True)
    if row is not None and row.state == "published":
        return row.number
    if row is None or row.state != "verifying" or row.lease_holder != holder:
        raise write_expired()
    return None


def finish_upload(session: Session, upload_id: str, number: int) -> None:
    """Note which version an upload became."""
    session.execute(
        update(UploadRow).where(UploadRow.id == upload_id).values({**_ending("published", None), "number": number})
    )
    _unpin(session, [upload_id])


def _pin(session: Session, upload: UploadRecord) -> None:
    object_ids = upload.object_ids
    if not object_ids:
        return
    there = ObjectRow.id.in_(object_ids), ObjectRow.team == upload.team, ObjectRow.damaged_at.is_(None)
    kept = select(ObjectRow.id).where(*there).order_by(ObjectRow.sha256).with_for_update(read=True, key_share=True)
    if len(session.scalars(kept).all()) != len(object_ids):
        raise PlanStaleError("What this upload was to reuse is not there as it was. Plan it afresh.")
    pin = {"upload_id": upload.id, "expires_at": upload.expires_at}
    session.execute(insert(UploadPinRow), [{**pin, "object_id": object_id} for object_id in object_ids])


def _unpin(session: Session, upload_ids: Sequence[str]) -> None:
    session.execute(delete(UploadPinRow).where(UploadPinRow.upload_id.in_(upload_ids)))


def _renew_writes(session: Session, upload: UploadRecord, expires_at: datetime) -> None:
    """Keep the bytes of an upload, and what it reuses, for longer."""
    locations = upload.locations
    intents = update(WriteIntentRow).where(WriteIntentRow.location.in_(locations)).values(expires_at=expires_at)
    renewed = session.scalars(intents.returning(WriteIntentRow.location)).all()
    if len(renewed) != len(set(locations)):
        raise write_expired()
    if upload.object_ids:
        pins = update(UploadPinRow).where(UploadPinRow.upload_id == upload.id)
        session.execute(pins.values(expires_at=expires_at))


def _unheld() -> Any:
    held = (UploadRow.state == "verifying") & (UploadRow.lease_until > utc_now())
    return UploadRow.state.in_(_RUNNING) & ~held


def _ending(state: UploadState, problem: dict[str, Any] | None) -> dict[str, Any]:
    kept_until = utc_now() + KEY_LIFETIME
    return {"state": state, "problem": problem, "lease_holder": None, "lease_until": None, "expires_at": kept_until}


def _with_key(upload: UploadRecord) -> tuple[Any, ...]:
    return (
        UploadRow.created_by == upload.created_by,
        UploadRow.team == upload.team,
        UploadRow.model == upload.model,
        UploadRow.key == upload.key,
    )


def _record(session: Session, row: UploadRow) -> UploadRecord:
    files = session.scalars(
        select(UploadFileRow).where(UploadFileRow.upload_id == row.id).order_by(UploadFileRow.position)
    )
    return UploadRecord(
        **{name: getattr(row, name) for name in _COLUMNS},
        files=tuple(
            PlannedFileRecord(
                each.path,
                each.size_bytes,
                each.part_bytes,
                each.location,
                each.multipart_id,
                None if each.extents is None else tuple(_planned_extent(*extent) for extent in each.extents),
                tuple(decode_tiles(each.claimed)),
            )
            for each in files
        ),
    )


def _planned_extent(object_id: int | None, offset: int | None, length: int | None) -> PlannedExtent:
    return PlannedExtent(object_id, offset or 0, length or 0)


_COLUMNS = tuple(name for name in UploadRecord.__dataclass_fields__ if name != "files")
