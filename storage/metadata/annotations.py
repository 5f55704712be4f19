"""Annotations in the catalog: what may change of a version, every change recorded."""

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from registry.errors import InvalidMetadataError, PreconditionFailedError
from registry.schema import MAX_METRICS, MAX_TAGS, AnnotationsUpdate, VersionInfo
from storage.metadata.audit import record
from storage.metadata.due import note_due
from storage.metadata.lookup import find_latest, get_model, get_version_number, lock_model
from storage.metadata.records import Actor, AnnotationChange
from storage.metadata.session import Transactional, reads, utc_now, writes
from storage.metadata.shapes import version_info
from storage.metadata.tables import (
    INDEXED_CHARACTERS,
    AnnotationChangeRow,
    AnnotationsRow,
    MetricRow,
    ModelRow,
    TagRow,
    VersionRow,
)

ValueT = TypeVar("ValueT")


class AnnotationRecords(Transactional):
    """The part of the catalog that knows annotations."""

    @writes
    def annotate(  # noqa: PLR0917 - a version is named by three words
        self,
        session: Session,
        team: str,
        model: str,
        number: int,
        update: AnnotationsUpdate,
        expected_revision: int | None,
        by: Actor,
    ) -> VersionInfo:
        """Change annotations if they are still what the caller expects (None: whatever they are).

        Members left out stay; a metric, tag or deprecation set to null goes.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is no such live version.
            PreconditionFailedError: somebody changed them since; the detail says who and when.
            InvalidMetadataError: it would have too many metrics or tags.
        """
        row = lock_model(session, team, model)
        version = get_version_number(session, row, number)
        annotations = session.get_one(AnnotationsRow, version.id)
        _require_revision(row, version, annotations, expected_revision)
        now = utc_now()
        before = version_info(session, row, version).annotations
        changes = update.model_dump(exclude_unset=True)
        if "metrics" in changes:
            metrics = _merge(before.metrics, update.metrics, MAX_METRICS, "metrics")
            write_metrics(session, row, version.id, number, metrics)
        if "tags" in changes:
            write_tags(session, row, version.id, _merge(before.tags, update.tags, MAX_TAGS, "tags"))
        if update.description is not None:
            annotations.description = update.description
        if "deprecated" in changes:
            annotations.deprecated = update.deprecated
        annotations.revision += 1
        annotations.updated_at = row.updated_at = now
        annotations.updated_by = by.name
        record_change(session, annotations, changes)
        note_due(session, row, number)
        record(session, by, "version.annotate", team=team, model=model, version=number, revision=annotations.revision)
        row.latest = find_latest(session, row)
        return version_info(session, row, version)

    @reads
    def annotation_history(self, session: Session, team: str, model: str, number: int) -> list[AnnotationChange]:
        """Return every change of a version's annotations, the newest first; the last one is what was pushed.

        Raises:
            ModelNotFoundError, VersionNotFoundError: there is no such live version.
        """
        version = get_version_number(session, get_model(session, team, model), number)
        query = select(AnnotationChangeRow).where(AnnotationChangeRow.version_id == version.id)
        changes = session.scalars(query.order_by(AnnotationChangeRow.revision.desc()))
        return [AnnotationChange(row.revision, row.changed_at, row.changed_by, row.changes) for row in changes]


def write_metrics(
    session: Session, model: ModelRow, version_id: int, number: int, metrics: Mapping[str, float]
) -> None:
    """Make these the metrics of a version."""
    session.execute(delete(MetricRow).where(MetricRow.version_id == version_id))
    common = {"version_id": version_id, "model_id": model.id, "number": number}
    if metrics:
        session.execute(insert(MetricRow), [{**common, "name": name, "value": metrics[name]} for name in metrics])


def write_tags(session: Session, model: ModelRow, version_id: int, tags: Mapping[str, str]) -> None:
    """Make these the tags of a version."""
    session.execute(delete(TagRow).where(TagRow.version_id == version_id))
    common = {"version_id": version_id, "model_id": model.id}
    rows = [
        {**common, "key": key, "value": value, "value_start": value[:INDEXED_CHARACTERS]} for key, value in tags.items()
    ]
    if rows:
        session.execute(insert(TagRow), rows)


def record_change(session: Session, annotations: AnnotationsRow, changes: dict[str, Any]) -> None:
    """Record what led to the revision that the annotations have now."""
    session.flush()
    session.execute(
        insert(AnnotationChangeRow).values(
            version_id=annotations.version_id,
            revision=annotations.revision,
            changed_at=annotations.updated_at,
            changed_by=annotations.updated_by,
            changes=changes,
        )
    )


def _merge(
    before: Mapping[str, ValueT], update: Mapping[str, ValueT | None], most: int, what: str
) -> dict[str, ValueT]:
    merged = {key: value for key, value in {**before, **update}.items() if value is not None}
    if len(merged) > most:
        raise InvalidMetadataError(f"A version has at most {most} {what}; this would make {len(merged)}.")
    return merged


def _require_revision(model: ModelRow, version: VersionRow, annotations: AnnotationsRow, expected: int | None) -> None:
    if expected is None or expected == annotations.revision:
        return
    when = annotations.updated_at.isoformat(timespec="seconds")
    raise PreconditionFailedError(
        f"The annotations of {model.team}/{model.name}:{version.number} were changed by {annotations.updated_by} at "
        f"{when}. Look at them again, then repeat with their new revision.",
        revision=annotations.revision,
        updated_by=annotations.updated_by,
        updated_at=annotations.updated_at.isoformat(),
    )
