"""Running pushes in the catalog: what they write, and the `Idempotency-Key` that makes them happen once."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from registry.errors import InvalidRequestError, PublishInProgressError, UnavailableError
from storage.metadata.garbage import end_writes
from storage.metadata.records import Replay
from storage.metadata.session import Transactional, insert_for, utc_now, writes
from storage.metadata.tables import IdempotencyKeyRow, WriteIntentRow

KEY_LIFETIME = timedelta(days=7)
MAX_KEY_LENGTH = 200


class Pushes(Transactional):
    """The part of the catalog that knows what is being pushed."""

    def begin_write(self, location: str, team: str, by: str, expires_at: datetime) -> None:
        """Record that somebody is about to write to a location. Comes before the first byte."""
        self.begin_writes([location], team, by, expires_at)

    @writes
    def begin_writes(
        self, session: Session, locations: Sequence[str], team: str, by: str, expires_at: datetime
    ) -> None:
        """Record that somebody is about to write to several locations."""
        same = {"team": team, "created_by": by, "created_at": utc_now(), "expires_at": expires_at}
        session.execute(insert(WriteIntentRow), [{"location": each, **same} for each in locations])

    @writes
    def extend_write(self, session: Session, locations: Sequence[str], expires_at: datetime) -> None:
        """Give running writes more time.

        Raises:
            UnavailableError: a location is doomed already: the push cannot end well.
        """
        intents = update(WriteIntentRow).where(WriteIntentRow.location.in_(locations))
        extended = session.scalars(intents.values(expires_at=expires_at).returning(WriteIntentRow.location)).all()
        if len(extended) != len(set(locations)):
            raise write_expired()

    @writes
    def cancel_write(self, session: Session, location: str) -> None:
        """End a write that failed: its bytes, if any, may go at once. One that ended already is fine."""
        end_writes(session, WriteIntentRow.location == location)

    @writes
    def begin_push(  # noqa: PLR0917 - a key belongs to a caller and a model
        self, session: Session, caller: str, team: str, model: str, key: str, lease_until: datetime
    ) -> Replay | None:
        """Claim an `Idempotency-Key` until `lease_until`; None means: go on.

        Returns:
            What the push led to when it finished before, for 7 days.

        Raises:
            PublishInProgressError: it is still running; `retry_after` in its extra members is in seconds.
            InvalidRequestError: the key is too long.
        """
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise InvalidRequestError(f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters.")
        now = utc_now()
        fresh = insert_for(session, IdempotencyKeyRow).values(
            caller=caller, team=team, model=model, key=key, lease_until=lease_until, expires_at=lease_until
        )
        if session.scalar(fresh.on_conflict_do_nothing().returning(IdempotencyKeyRow.key)) is not None:
            return None
        row = find_key(session, caller, team, model, key)
        if row is None:  # abandoned between the two statements
            raise _in_progress(1)
        if row.number is not None and row.fingerprint is not None and row.expires_at > now:
            return Replay(row.number, row.fingerprint)
        if row.number is None and row.lease_until > now:
            raise _in_progress((row.lease_until - now).total_seconds())
        row.number = row.fingerprint = None
        row.lease_until = row.expires_at = lease_until
        return None

    @writes
    def extend_push(  # noqa: PLR0917 - a key belongs to a caller and a model
        self, session: Session, caller: str, team: str, model: str, key: str, lease_until: datetime
    ) -> None:
        """Say that a push with this key is still running."""
        row = find_key(session, caller, team, model, key)
        if row is not None and row.number is None:
            row.lease_until = row.expires_at = lease_until

    @writes
    def abandon_push(self, session: Session, caller: str, team: str, model: str, key: str) -> None:
        """Free the key of a push that failed; a finished one stays."""
        row = find_key(session, caller, team, model, key)
        if row is not None and row.number is None:
            session.delete(row)

    @writes
    def forget_expired_keys(self, session: Session, now: datetime, limit: int) -> int:
        """Forget keys that nobody may repeat any more, and return how many."""
        rows = select(IdempotencyKeyRow).where(IdempotencyKeyRow.expires_at <= now)
        expired = session.scalars(rows.limit(limit).with_for_update(skip_locked=True)).all()
        for row in expired:
            session.delete(row)
        return len(expired)


def find_key(session: Session, caller: str, team: str, model: str, key: str) -> IdempotencyKeyRow | None:
    """Return the row of a key, locked until this transaction ends."""
    return session.get(IdempotencyKeyRow, (caller, team, model, key), with_for_update=True, populate_existing=True)


def take_writes(session: Session, locations: Sequence[str]) -> None:
    """End the writes to locations whose bytes are verified and about to be named.

    Raises:
        UnavailableError: a location is doomed already, its bytes may be gone.
    """
    intents = delete(WriteIntentRow).where(WriteIntentRow.location.in_(locations))
    taken = session.scalars(intents.returning(WriteIntentRow.location)).all()
    if len(taken) != len(set(locations)):
        raise write_expired()


def write_expired() -> UnavailableError:
    """Return the error for a push that took longer than its time."""
    return UnavailableError("The push paused for longer than the service waits, and was given up. Push again.")


def _in_progress(seconds: float) -> PublishInProgressError:
    return PublishInProgressError(
        "The first push with this Idempotency-Key is still running. Wait, then repeat it to get its version.",
        retry_after=max(1, math.ceil(seconds)),
    )
