"""Binding digests to locations: a team's objects, where its storages lie, and manifests under their digests."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from storage.metadata.due import note_holders_due
from storage.metadata.garbage import DOOM_DELAY, doom_locations
from storage.metadata.records import NewArtifact, NewVersion
from storage.metadata.session import insert_for
from storage.metadata.tables import ManifestRow, ObjectRow, StorageRow

_BATCH = 1000


def bind_objects(session: Session, new: NewVersion, now: datetime) -> dict[str, int]:
    """Return the team's object by SHA-256, new where the team had none, in digest order so that rivals cannot deadlock.

    What was written a second time is doomed; where the first bytes are damaged, the fresh ones take their place.
    Storages that the team did not have yet can be reused from now on.
    """
    fresh = {artifact.info.sha256: artifact for artifact in reversed(new.artifacts)}
    objects: dict[str, int] = {}
    used: set[str] = set()
    for sha256, artifact in sorted(fresh.items()):
        row = {"location": artifact.location, "team": new.team, "sha256": sha256}
        statement = insert_for(session, ObjectRow).values(**row, size_bytes=artifact.info.size_bytes, created_at=now)
        conflict = statement.on_conflict_do_nothing(index_elements=[ObjectRow.team, ObjectRow.sha256])
        inserted = session.scalar(conflict.returning(ObjectRow.id))
        if inserted is None:
            objects[sha256], is_mended = _take_object(session, new.team, artifact, now)
            used |= {artifact.location} if is_mended else set()
        else:
            objects[sha256] = inserted
            used.add(artifact.location)
            if new.trust != "unsafe":  # what is in quarantine is never a source of reuse
                insert_storages(session, new.team, artifact, inserted)
    doom_locations(session, [each.location for each in new.artifacts if each.location not in used], now)
    return objects


def _take_object(session: Session, team: str, artifact: NewArtifact, now: datetime) -> tuple[int, bool]:
    """Return the object that the team has already, and whether the fresh bytes took the place of damaged ones."""
    same = ObjectRow.team == team, ObjectRow.sha256 == artifact.info.sha256
    locked = select(ObjectRow).where(*same).with_for_update().execution_options(populate_existing=True)
    known = session.scalars(locked).one()
    known.released_at = None
    is_damaged = known.damaged_at is not None
    if is_damaged:
        doom_locations(session, [known.location], now + DOOM_DELAY)
        known.location, known.damaged_at = artifact.location, None
        session.flush()
        note_holders_due(session, known.id)
    return known.id, is_damaged


def insert_storages(session: Session, team: str, artifact: NewArtifact, object_id: int) -> None:
    """Insert the storages of an artifact that the team does not have elsewhere; their places are in the object."""
    places = {storage.digest: storage for storage in artifact.storages}
    ordered = sorted(places)
    for start in range(0, len(ordered), _BATCH):
        digests = ordered[start : start + _BATCH]
        known = set(
            session.scalars(
                select(StorageRow.digest)
                .join(ObjectRow, ObjectRow.id == StorageRow.object_id)
                .where(StorageRow.digest.in_(digests), ObjectRow.team == team, ObjectRow.damaged_at.is_(None))
            )
        )
        rows = [
            {"digest": each, "object_id": object_id, "offset": places[each].offset, "length": places[each].length}
            for each in digests
            if each not in known
        ]
        if rows:
            session.execute(insert(StorageRow), rows)


def insert_manifests(session: Session, manifests: Mapping[str, bytes]) -> None:
    """Insert compressed manifests by digest, those that are not there yet."""
    for digest, compressed in sorted(manifests.items()):
        statement = insert_for(session, ManifestRow).values(digest=digest, compressed=compressed)
        session.execute(statement.on_conflict_do_nothing())
