"""Rows become schema objects here, in a number of queries that does not grow with the number of rows."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.fields import WireModel
from registry.formats.mentions import list_globals, list_reasons
from registry.module_info import Builder, Origin, PretrainedConfig, Recipe
from registry.schema import (
    AliasInfo,
    AliasMove,
    Annotations,
    ArtifactInfo,
    ModelInfo,
    VersionInfo,
)
from storage.metadata.tables import (
    AliasMoveRow,
    AliasRow,
    AnnotationsRow,
    ArtifactRow,
    ExtentRow,
    MetricRow,
    ModelRow,
    ModelTagRow,
    ObjectRow,
    TagRow,
    VersionRow,
)

DocumentT = TypeVar("DocumentT", bound=WireModel)


def model_infos(session: Session, models: Sequence[ModelRow]) -> list[ModelInfo]:
    """Return the models with their tags."""
    query = select(ModelTagRow).where(ModelTagRow.model_id.in_([model.id for model in models]))
    tags: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for tag in session.scalars(query.order_by(ModelTagRow.key)):
        tags[tag.model_id][tag.key] = tag.value
    damaged = _damaged_counts(session, [model.id for model in models])
    return [
        ModelInfo(
            team=model.team,
            name=model.name,
            description=model.description,
            visibility=model.visibility,
            tags=tags[model.id],
            latest=model.latest,
            version_count=model.version_count,
            damaged_versions=damaged.get(model.id, 0),
            created_at=model.created_at,
            created_by=model.created_by,
            updated_at=model.updated_at,
            deleted_at=model.deleted_at,
        )
        for model in models
    ]


def version_infos(
    session: Session, model: ModelRow, versions: Sequence[VersionRow], *, class_names: bool = False
) -> list[VersionInfo]:
    """Return versions of one model with their artifacts, annotations and aliases.

    Names of classes, which may be thousands a version, are left out unless they are asked for.
    """
    ids = [version.id for version in versions]
    artifacts = _artifacts(session, ids)
    annotations = _annotations(session, ids)
    aliases = _aliases(session, model, [version.number for version in versions])
    damaged = _damaged(session, ids)
    return [
        VersionInfo(
            team=model.team,
            model=model.name,
            number=version.number,
            kind=version.kind,
            trust=version.trust,
            size_bytes=version.size_bytes,
            artifacts=artifacts[version.id],
            weights=version.weights,
            weights_problem=version.weights_problem,
            aliases=aliases[version.number],
            annotations=annotations[version.id],
            base=version.base,
            builder=_parsed(Builder, version.builder),
            pretrained_cfg=_pretrained_cfg(version.pretrained_cfg, class_names=class_names),
            recipe=_parsed(Recipe, version.recipe),
            origin=_parsed(Origin, version.origin),
            wrappers=version.wrappers,
            created_at=version.created_at,
            created_by=version.created_by,
            deleted_at=version.deleted_at,
            purged_at=version.purged_at,
            quarantined_at=version.quarantined_at,
            notices=version.notices,
            damaged=damaged[version.id],
        )
        for version in versions
    ]


def version_info(session: Session, model: ModelRow, version: VersionRow) -> VersionInfo:
    """Return one version with its artifacts, annotations and aliases."""
    return version_infos(session, model, [version], class_names=True)[0]


def artifact_info(row: ArtifactRow) -> ArtifactInfo:
    """Return an artifact as it is described on the wire."""
    return ArtifactInfo(
        path=row.path,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        blake3=row.blake3,
        format=row.format,
        kind=row.kind,
        trust=row.trust,
        reasons=list_reasons(row.reasons),
        globals=list_globals(row.globals),
        global_count=len(row.globals) if row.global_count is None else row.global_count,
        manifest=row.manifest_digest,
        tensor_count=row.tensor_count,
        parameter_count=row.parameter_count,
    )


def alias_info(model: ModelRow, alias: AliasRow, number: int) -> AliasInfo:
    """Return an alias that points at `number`."""
    return AliasInfo(
        team=model.team,
        model=model.name,
        name=alias.name,
        version=number,
        revision=alias.revision,
        updated_at=alias.updated_at,
        updated_by=alias.updated_by,
    )


def alias_move(row: AliasMoveRow) -> AliasMove:
    """Return a recorded move."""
    return AliasMove(
        name=row.name,
        revision=row.revision,
        from_version=row.from_number,
        to_version=row.to_number,
        moved_at=row.moved_at,
        moved_by=row.moved_by,
        reason=row.reason,
    )


def _pretrained_cfg(document: dict[str, Any] | None, *, class_names: bool) -> PretrainedConfig | None:
    left_out = set[str]() if class_names else {"class_names"}
    kept = None if document is None else {name: value for name, value in document.items() if name not in left_out}
    return _parsed(PretrainedConfig, kept)


def _parsed(kind: type[DocumentT], document: dict[str, Any] | None) -> DocumentT | None:
    return None if document is None else kind.model_validate(document)


def _artifacts(session: Session, version_ids: Sequence[int]) -> defaultdict[int, list[ArtifactInfo]]:
    query = select(ArtifactRow).where(ArtifactRow.version_id.in_(version_ids)).order_by(ArtifactRow.position)
    found: defaultdict[int, list[ArtifactInfo]] = defaultdict(list)
    for row in session.scalars(query):
        found[row.version_id].append(artifact_info(row))
    return found


def _damaged(session: Session, version_ids: Sequence[int]) -> defaultdict[int, list[str]]:
    """Return the paths of damaged artifacts by version; nearly always there are none, and then nothing is looked up."""
    query = (
        select(ArtifactRow.version_id, ArtifactRow.path)
        .select_from(ObjectRow)
        .join(ExtentRow, ExtentRow.object_id == ObjectRow.id)
        .join(ArtifactRow, ArtifactRow.id == ExtentRow.artifact_id)
        .where(ObjectRow.damaged_at.is_not(None), ArtifactRow.version_id.in_(version_ids))
        .distinct()
        .order_by(ArtifactRow.version_id, ArtifactRow.path)
    )
    found: defaultdict[int, list[str]] = defaultdict(list)
    for version_id, path in session.execute(query):
        found[version_id].append(path)
    return found


def _damaged_counts(session: Session, model_ids: Sequence[int]) -> dict[int, int]:
    """Return how many versions of a model that everybody sees are damaged, for models that have such."""
    query = (
        select(VersionRow.model_id, func.count(VersionRow.id.distinct()).label("versions"))
        .select_from(ObjectRow)
        .join(ExtentRow, ExtentRow.object_id == ObjectRow.id)
        .join(ArtifactRow, ArtifactRow.id == ExtentRow.artifact_id)
        .join(VersionRow, VersionRow.id == ArtifactRow.version_id)
        .where(ObjectRow.damaged_at.is_not(None), VersionRow.model_id.in_(model_ids))
        .where(VersionRow.deleted_at.is_(None), VersionRow.quarantined_at.is_(None))
        .group_by(VersionRow.model_id)
    )
    return {row.model_id: row.versions for row in session.execute(query)}


def _annotations(session: Session, version_ids: Sequence[int]) -> dict[int, Annotations]:
    metrics: defaultdict[int, dict[str, float]] = defaultdict(dict)
    tags: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for metric in session.scalars(
        select(MetricRow).where(MetricRow.version_id.in_(version_ids)).order_by(MetricRow.name)
    ):
        metrics[metric.version_id][metric.name] = metric.value
    for tag in session.scalars(select(TagRow).where(TagRow.version_id.in_(version_ids)).order_by(TagRow.key)):
        tags[tag.version_id][tag.key] = tag.value
    rows = session.scalars(select(AnnotationsRow).where(AnnotationsRow.version_id.in_(version_ids)))
    return {
        row.version_id: Annotations(
            description=row.description,
            metrics=metrics[row.version_id],
            tags=tags[row.version_id],
            deprecated=row.deprecated,
            revision=row.revision,
            updated_at=row.updated_at,
            updated_by=row.updated_by,
        )
        for row in rows
    }


def _aliases(session: Session, model: ModelRow, numbers: Sequence[int]) -> defaultdict[int | None, list[str]]:
    query = select(AliasRow).where(AliasRow.model_id == model.id, AliasRow.number.in_(numbers))
    found: defaultdict[int | None, list[str]] = defaultdict(list)
    for row in session.scalars(query.order_by(AliasRow.name)):
        found[row.number].append(row.name)
    return found
