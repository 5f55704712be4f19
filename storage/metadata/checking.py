"""What `fsck` asks of the catalog: every artifact with its extents, who has an object, and marks on damaged objects."""

import hashlib
import zlib
from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from storage.metadata.checked import CheckedArtifact, CheckedExtent, Holders
from storage.metadata.records import StoredObject
from storage.metadata.session import Transactional, reads, writes
from storage.metadata.tables import ArtifactRow, ExtentRow, ManifestRow, ModelRow, ObjectRow, VersionRow

_BATCH = 200
_NAMES = (ModelRow.team, ModelRow.name.label("model"), VersionRow.number)
_NAMED = 20
"""Artifacts that are named of those that have an object."""


class Checking(Transactional):
    """The part of the catalog that is compared with what is stored."""

    def iter_artifacts(self) -> Iterator[CheckedArtifact]:
        """Yield every artifact with its extents, in short transactions."""
        last = 0
        while batch := self._artifacts_after(last):
            yield from batch
            last = batch[-1].artifact_id

    @reads
    def _artifacts_after(self, session: Session, last: int) -> list[CheckedArtifact]:
        rows = session.execute(
            select(ArtifactRow.id, ArtifactRow.path, ArtifactRow.size_bytes, *_NAMES)
            .join(VersionRow, VersionRow.id == ArtifactRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(ArtifactRow.id > last)
            .order_by(ArtifactRow.id)
            .limit(_BATCH)
        ).all()
        extents: dict[int, list[CheckedExtent]] = {row.id: [] for row in rows}
        found = session.execute(
            select(ExtentRow, ObjectRow.team, ObjectRow.size_bytes)
            .outerjoin(ObjectRow, ObjectRow.id == ExtentRow.object_id)
            .where(ExtentRow.artifact_id.in_(extents))
            .order_by(ExtentRow.artifact_id, ExtentRow.position)
        )
        for extent, team, size_bytes in found:
            each = CheckedExtent(extent.position, extent.offset, extent.length, team, size_bytes)
            extents[extent.artifact_id].append(each)
        return [
            CheckedArtifact(row.id, row.team, row.model, row.number, row.path, row.size_bytes, tuple(extents[row.id]))
            for row in rows
        ]

    @reads
    def list_empty_versions(self, session: Session, after: int, limit: int) -> list[tuple[int, str, str, int]]:
        """Return id, team, model and number of versions that are not purged and have no artifact, by id."""
        has_artifact = exists().where(ArtifactRow.version_id == VersionRow.id)
        query = (
            select(VersionRow.id, *_NAMES)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(VersionRow.id > after, VersionRow.purged_at.is_(None), ~has_artifact)
            .order_by(VersionRow.id)
            .limit(limit)
        )
        return [(row.id, row.team, row.model, row.number) for row in session.execute(query)]

    def iter_damaged_manifests(self) -> Iterator[str]:
        """Yield the digests of manifests whose bytes have another one."""
        last = ""
        while batch := self._manifests_after(last):
            for digest, compressed in batch:
                if not _holds(compressed, digest):
                    yield digest
            last = batch[-1][0]

    @reads
    def _manifests_after(self, session: Session, last: str) -> list[tuple[str, bytes]]:
        rows = select(ManifestRow.digest, ManifestRow.compressed).where(ManifestRow.digest > last)
        return [(row.digest, row.compressed) for row in session.execute(rows.order_by(ManifestRow.digest).limit(10))]

    @reads
    def find_object(self, session: Session, object_id: int) -> StoredObject | None:
        """Return an object; None when it was collected."""
        row = session.get(ObjectRow, object_id)
        return None if row is None else stored_object(row)

    @reads
    def find_holders(self, session: Session, object_id: int) -> Holders:
        """Return which artifacts have extents in an object."""
        return _holders(session, ExtentRow.object_id == object_id)

    @reads
    def find_manifest_holders(self, session: Session, digest: str) -> Holders:
        """Return which artifacts a manifest is of."""
        return _holders(session, ArtifactRow.manifest_digest == digest)

    @writes
    def mark_damaged(self, session: Session, object_id: int, location: str, when: datetime | None) -> bool:
        """Mark an object as damaged, or with None as whole; return whether that changed it and it still lies there."""
        changed = ObjectRow.damaged_at.is_(None) if when is not None else ObjectRow.damaged_at.is_not(None)
        same = ObjectRow.id == object_id, ObjectRow.location == location, changed
        marked = update(ObjectRow).where(*same).values(damaged_at=when).returning(ObjectRow.id)
        return session.scalar(marked.execution_options(synchronize_session=False)) is not None

    @reads
    def find_versions(self, session: Session, named: Collection[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
        """Return which of some versions there are and have content, and under the number 0 which models there are."""
        teams, models = {each[0] for each in named}, {each[1] for each in named}
        rows = select(ModelRow.id, ModelRow.team, ModelRow.name).where(ModelRow.team.in_(teams))
        known = {row.id: (row.team, row.name) for row in session.execute(rows.where(ModelRow.name.in_(models)))}
        numbers = {each[2] for each in named}
        found = session.execute(
            select(VersionRow.model_id, VersionRow.number).where(
                VersionRow.model_id.in_(known), VersionRow.number.in_(numbers), VersionRow.purged_at.is_(None)
            )
        )
        there = {(*known[row.model_id], row.number) for row in found} | {(*each, 0) for each in known.values()}
        return there & set(named)


def stored_object(row: ObjectRow) -> StoredObject:
    """Return what the use cases are told of an object."""
    return StoredObject(row.location, row.team, row.sha256, row.size_bytes, row.id, row.damaged_at is not None)


def _holders(session: Session, which: ColumnElement[bool]) -> Holders:
    query = (
        select(ModelRow.team, ModelRow.name, VersionRow.number, ArtifactRow.path)
        .select_from(ArtifactRow)
        .join(ExtentRow, ExtentRow.artifact_id == ArtifactRow.id)
        .join(VersionRow, VersionRow.id == ArtifactRow.version_id)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
        .where(which)
        .distinct()
    )
    count = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    rows = session.execute(
        query.order_by(ModelRow.team, ModelRow.name, VersionRow.number, ArtifactRow.path).limit(_NAMED)
    )
    named = [f"{team}/{model}:{number}/{path}" for team, model, number, path in rows]
    return Holders(tuple(named), count - len(named))


def _holds(compressed: bytes, digest: str) -> bool:
    try:
        return f"sha256:{hashlib.sha256(zlib.decompress(compressed)).hexdigest()}" == digest
    except zlib.error:
        return False
