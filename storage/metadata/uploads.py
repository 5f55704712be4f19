"""Planned uploads in the catalog: from the plan to the version, one holder at a time verifying."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from registry.uploads import UploadState
from storage.metadata.garbage import end_writes
from storage.metadata.pushes import KEY_LIFETIME, write_expired
from storage.metadata.session import Transactional, insert_for, reads, utc_now, writes
from storage.metadata.tables import WriteIntentRow
from storage.metadata.upload_tables import UploadFileRow, UploadRow

_RUNNING = ("open", "verifying")


@dataclass(frozen=True, slots=True)
class PlannedFileRecord:
    """A file of an upload, and where its parts are gathered.

    Attributes:
        part_bytes: of every part but the last.
        multipart_id: what the blob store calls the gathering.
    """

    path: str
    size_bytes: int
    part_bytes: int
    location: str
    multipart_id: str

    @property
    def part_count(self) -> int:
        """How many parts it is sent in."""
        return -(-self.size_bytes // self.part_bytes)

    def place(self, number: int) -> tuple[int, int]:
        """Return offset and length in bytes of part `number`, counted from 1."""
        offset = (number - 1) * self.part_bytes
        return offset, min(self.part_bytes, self.size_bytes - offset)


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
    def locations(self) -> list[str]:
        """Where its bytes are gathered."""
        return [each.location for each in self.files]


class Uploads(Transactional):
    """The part of the catalog that knows planned uploads."""

    @writes
    def add_upload(self, session: Session, upload: UploadRecord) -> UploadRecord:
        """Keep a plan, and return it; where its key is taken, return the upload that has it."""
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
            }
            for position, each in enumerate(upload.files)
        ]
        session.execute(insert(UploadFileRow), rows)
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
        _renew_writes(session, upload.locations, expires_at)

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
        _renew_writes(session, upload.locations, later)

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


def _renew_writes(session: Session, locations: Sequence[str], expires_at: datetime) -> None:
    intents = update(WriteIntentRow).where(WriteIntentRow.location.in_(locations)).values(expires_at=expires_at)
    renewed = session.scalars(intents.returning(WriteIntentRow.location)).all()
    if len(renewed) != len(set(locations)):
        raise write_expired()


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
            PlannedFileRecord(each.path, each.size_bytes, each.part_bytes, each.location, each.multipart_id)
            for each in files
        ),
    )


_COLUMNS = tuple(name for name in UploadRecord.__dataclass_fields__ if name != "files")
