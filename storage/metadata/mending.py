"""Versions whose stored bytes are damaged get a place of the same file that is whole, as soon as there is one."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from storage.metadata.binding import Bound
from storage.metadata.due import note_due
from storage.metadata.garbage import DOOM_DELAY, let_go, lock_objects
from storage.metadata.records import NewVersion
from storage.metadata.tables import ArtifactRow, ExtentRow, ModelRow, ObjectRow, VersionRow

_IS_ANY_DAMAGED = select(ObjectRow.id).where(ObjectRow.damaged_at.is_not(None)).limit(1)


def mend_copies(session: Session, new: NewVersion, places: Sequence[Sequence[Bound]], now: datetime) -> None:
    """Point the team's damaged artifacts that hold the bytes of a new version at where these lie.

    A fine-tune lies in several objects, and a file that comes again rarely in the same ones. Nothing is looked up where
    nothing is damaged, as nearly always. What somebody else has locked stays as it is: they are purging it, or mending.

    Args:
        session: of the transaction that publishes, which has the objects.
        new: what is published.
        places: where each artifact of it lies.
        now: the time.
    """
    if new.trust == "unsafe" or session.scalar(_IS_ANY_DAMAGED) is None:
        return
    for artifact, bounds in zip(new.artifacts, places, strict=True):
        for artifact_id, number, model in _find_damaged(session, new.team, artifact.info.sha256):
            _move(session, artifact_id, bounds, now)
            note_due(session, model, number)


def _find_damaged(session: Session, team: str, sha256: str) -> Sequence[tuple[int, int, ModelRow]]:
    """Return artifacts with a digest of which a part is damaged, their versions' numbers and models, all locked."""
    in_damaged = (
        select(ExtentRow.artifact_id)
        .join(ObjectRow, ObjectRow.id == ExtentRow.object_id)
        .where(ExtentRow.artifact_id == ArtifactRow.id, ObjectRow.damaged_at.is_not(None))
    )
    query = (
        select(ArtifactRow.id, VersionRow.number, ModelRow)
        .join(VersionRow, VersionRow.id == ArtifactRow.version_id)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
        .where(ModelRow.team == team, ArtifactRow.sha256 == sha256, in_damaged.exists())
        .order_by(ModelRow.id, ArtifactRow.id)
        .with_for_update(skip_locked=True)
    )
    return [(artifact_id, number, model) for artifact_id, number, model in session.execute(query)]


def _move(session: Session, artifact_id: int, bounds: Sequence[Bound], now: datetime) -> None:
    """Give an artifact other extents; what nobody else has of the objects before goes."""
    left = lock_objects(session, select(ExtentRow.object_id).where(ExtentRow.artifact_id == artifact_id))
    session.execute(delete(ExtentRow).where(ExtentRow.artifact_id == artifact_id))
    rows = [{"artifact_id": artifact_id, "position": at, **bound._asdict()} for at, bound in enumerate(bounds)]
    session.execute(insert(ExtentRow), rows)
    let_go(session, left, now + DOOM_DELAY)
