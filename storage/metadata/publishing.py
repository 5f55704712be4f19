"""Publishing in the catalog: one transaction binds digests to locations and makes a version visible."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from registry.errors import IdempotencyKeyReusedError
from registry.fields import WireModel
from registry.names import fold_path
from registry.schema import VersionInfo
from storage.metadata.aliases import point_alias
from storage.metadata.annotations import record_change, write_metrics, write_tags
from storage.metadata.architectures import record_uses
from storage.metadata.audit import record
from storage.metadata.binding import Bound, bind_objects, insert_manifests
from storage.metadata.due import note_due
from storage.metadata.garbage import doom_locations
from storage.metadata.lookup import get_model, get_version_number
from storage.metadata.mending import mend_copies
from storage.metadata.models import ensure_model, revive_model
from storage.metadata.pushes import KEY_LIFETIME, find_key, take_writes
from storage.metadata.quotas import take_room
from storage.metadata.record_tables import OF_THE_MODEL
from storage.metadata.records import NewArtifact, NewVersion
from storage.metadata.session import Transactional, utc_now, writes
from storage.metadata.shapes import version_info
from storage.metadata.tables import (
    AnnotationsRow,
    ArtifactRow,
    ExtentRow,
    IdempotencyKeyRow,
    ModelRow,
    VersionRow,
)
from storage.metadata.tokens import require_live
from storage.metadata.uploads import find_published, finish_upload


class Publishing(Transactional):
    """The part of the catalog that makes versions."""

    def publish(self, new: NewVersion) -> VersionInfo:
        """Make a version visible, all at once or not at all, under the next number of its model.

        The model is created, or a deleted one begun anew. Bytes that the team has already are named once: the fresh
        location is doomed. A push whose `Idempotency-Key` finished before gets the version that it led to.

        Raises:
            VersionNotFoundError, ModelNotFoundError: there is no such live base.
            IdempotencyKeyReusedError: the key belongs to a push with another fingerprint.
            QuotaExceededError: the team has no room for it.
            PlanStaleError: what it was to reuse is not there as it was.
            UnavailableError: a write took longer than its intent allowed; its bytes may be gone.
        """
        compressed = {
            artifact.info.manifest: zlib.compress(artifact.manifest)
            for artifact in new.artifacts
            if artifact.info.manifest is not None and artifact.manifest is not None
        }
        return self._publish(new, compressed)

    @writes
    def _publish(self, session: Session, new: NewVersion, manifests: Mapping[str, bytes]) -> VersionInfo:
        now = utc_now()
        require_live(session, new.by.token)
        published = find_published(session, *new.upload) if new.upload is not None else None
        if published is not None:  # the answer of the database to the first attempt was lost
            model = get_model(session, new.team, new.model)
            return version_info(session, model, _replayed(session, model, published))
        locations = [location for artifact in new.artifacts for location in artifact.fresh_locations]
        take_writes(session, locations)
        replayed = _find_replay(session, new)
        if replayed is not None:
            doom_locations(session, locations, now)
            return replayed
        base_id = _find_base(session, new)
        model = _take_number(session, new, now)
        places = bind_objects(session, new, now)
        mend_copies(session, new, places, now)
        insert_manifests(session, manifests)
        version = _insert_version(session, new, model, base_id, now)
        _insert_artifacts(session, new.artifacts, version.id, places)
        record_uses(session, new, model, version)
        for alias in new.metadata.aliases if version.quarantined_at is None else ():
            point_alias(session, model, alias, version.number, by=new.by, reason="pushed with the version")
        note_due(session, model, version.number, OF_THE_MODEL)
        _finish_key(session, new, version.number, now)
        if new.upload is not None:
            finish_upload(session, new.upload[0], version.number)
        content = {"trust": new.trust, "size_bytes": version.size_bytes}
        record(session, new.by, "version.push", team=new.team, model=new.model, version=version.number, **content)
        info = version_info(session, model, version)
        take_room(session, new.team, [artifact.info.size_bytes for artifact in new.artifacts])
        return info


def _find_replay(session: Session, new: NewVersion) -> VersionInfo | None:
    """Return the version that the key led to already: its push was taken over, or its answer was lost."""
    if new.idempotency is None:
        return None
    caller, key = new.idempotency
    row = find_key(session, caller, new.team, new.model, key)
    if row is None or row.number is None:
        return None
    if row.fingerprint != new.fingerprint:
        raise IdempotencyKeyReusedError("This Idempotency-Key came before with other content. Use a fresh one.")
    model = get_model(session, new.team, new.model)
    return version_info(session, model, _replayed(session, model, row.number))


def _replayed(session: Session, model: ModelRow, number: int) -> VersionRow:
    return get_version_number(session, model, number, include_deleted=True, include_quarantined=True)


def _find_base(session: Session, new: NewVersion) -> int | None:
    if new.base_number is None:
        return None
    team, name, number = new.base_number
    return get_version_number(session, get_model(session, team, name), number).id


def _take_number(session: Session, new: NewVersion, now: datetime) -> ModelRow:
    """Return the model's row with the next number in its counter, locked until the transaction ends."""
    number = ModelRow.version_counter + 1
    latest = number if new.trust != "unsafe" else ModelRow.latest
    counted = 0 if new.trust == "unsafe" else 1  # few may know what is in quarantine
    statement = (
        update(ModelRow)
        .where(ModelRow.team == new.team, ModelRow.name == new.model)
        .values(version_counter=number, version_count=ModelRow.version_count + counted, latest=latest, updated_at=now)
        .returning(ModelRow)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    model = session.scalars(statement).one_or_none()
    if model is None:
        ensure_model(session, new.team, new.model, new.by)
        model = session.scalars(statement).one()
    if model.deleted_at is not None:
        revive_model(session, model, new.by)
        model.version_count, model.latest = counted, model.version_counter if counted else None
    return model


def _insert_version(
    session: Session, new: NewVersion, model: ModelRow, base_id: int | None, now: datetime
) -> VersionRow:
    metadata = new.metadata
    version = VersionRow(
        model_id=model.id,
        number=model.version_counter,
        kind=new.kind,
        trust=new.trust,
        size_bytes=sum(artifact.info.size_bytes for artifact in new.artifacts),
        builder=plain(metadata.builder),
        pretrained_cfg=plain(metadata.pretrained_cfg),
        recipe=plain(metadata.recipe),
        origin=plain(metadata.origin),
        wrappers=metadata.wrappers,
        base=metadata.base,
        base_id=base_id,
        weights=list(new.weights),
        weights_problem=new.weights_problem,
        notices=list(new.notices),
        created_at=now,
        created_by=new.by.name,
        quarantined_at=now if new.trust == "unsafe" else None,
    )
    session.add(version)
    session.flush()
    annotations = AnnotationsRow(
        version_id=version.id,
        description=metadata.description,
        revision=1,
        updated_at=now,
        updated_by=new.by.name,
    )
    session.add(annotations)
    write_metrics(session, model, version.id, version.number, metadata.metrics)
    write_tags(session, model, version.id, metadata.tags)
    pushed = metadata.model_dump(mode="json", include={"description", "metrics", "tags"})
    record_change(session, annotations, pushed)
    return version


def plain(document: WireModel | None) -> dict[str, Any] | None:
    """Return a document as its column holds it."""
    return None if document is None else document.model_dump(mode="json", exclude_defaults=True)


def _insert_artifacts(
    session: Session, artifacts: Sequence[NewArtifact], version_id: int, places: Sequence[Sequence[Bound]]
) -> None:
    rows = [artifact_row(artifact, version_id, position) for position, artifact in enumerate(artifacts)]
    session.add_all(rows)
    session.flush()
    extents: list[dict[str, Any]] = [
        {"artifact_id": row.id, "position": position, **bound._asdict()}
        for row, bounds in zip(rows, places, strict=True)
        for position, bound in enumerate(bounds)
    ]
    session.execute(insert(ExtentRow), extents)


def artifact_row(artifact: NewArtifact, version_id: int, position: int) -> ArtifactRow:
    """Return the row of an artifact, not inserted yet."""
    info = artifact.info
    return ArtifactRow(
        version_id=version_id,
        position=position,
        path=info.path,
        folded_digest=hashlib.sha256(fold_path(info.path).encode()).hexdigest(),
        size_bytes=info.size_bytes,
        sha256=info.sha256,
        blake3=info.blake3,
        format=info.format,
        kind=info.kind,
        trust=info.trust,
        reasons=info.reasons,
        globals=info.globals,
        global_count=info.global_count,
        manifest_digest=info.manifest,
        tensor_count=info.tensor_count,
        parameter_count=info.parameter_count,
    )


def _finish_key(session: Session, new: NewVersion, number: int, now: datetime) -> None:
    if new.idempotency is None:
        return
    caller, key = new.idempotency
    row = find_key(session, caller, new.team, new.model, key)
    if row is None:
        row = IdempotencyKeyRow(caller=caller, team=new.team, model=new.model, key=key, lease_until=now)
        session.add(row)
    row.number = number
    row.fingerprint = new.fingerprint
    row.expires_at = now + KEY_LIFETIME
