"""What a service says of a team, a model and a version, as the documents of an export say it."""

from collections.abc import Mapping

from registry.exporting.documents import FileDocument, Rules, VersionDocument
from registry.schema import ArtifactInfo, VersionInfo
from registry.teams import TeamInfo

_GLOBALS = 20
"""Of a file that a document names; the registry's own manifest has all."""


def describe_rules(team: TeamInfo) -> Rules:
    """Return a team's rules and limits."""
    return Rules.model_validate(team.model_dump())


def describe_version(version: VersionInfo, places: Mapping[str, str], left_out: Mapping[str, str]) -> VersionDocument:
    """Return the document of a version.

    Args:
        version: as the service describes it alone: lists leave out the names of classes.
        places: where its files are in the folder, by their paths.
        left_out: why a file is not there, by its path.
    """
    notes = version.annotations
    return VersionDocument(
        team=version.team,
        model=version.model,
        number=version.number,
        kind=version.kind,
        trust=version.trust,
        size_bytes=version.size_bytes,
        created_at=version.created_at,
        created_by=version.created_by,
        files=[_describe_file(each, places, left_out) for each in version.artifacts],
        weights=version.weights,
        description=notes.description,
        metrics=notes.metrics,
        tags=notes.tags,
        deprecated=notes.deprecated,
        annotated_at=notes.updated_at,
        annotated_by=notes.updated_by,
        base=version.base,
        builder=version.builder,
        pretrained_cfg=version.pretrained_cfg,
        recipe=version.recipe,
        origin=version.origin,
        wrappers=version.wrappers,
        quarantined_at=version.quarantined_at,
    )


def _describe_file(artifact: ArtifactInfo, places: Mapping[str, str], left_out: Mapping[str, str]) -> FileDocument:
    why = left_out.get(artifact.path)
    where = None if why is not None else places[artifact.path]
    said = artifact.model_dump(include=set(FileDocument.model_fields))
    return FileDocument.model_validate(said | {"file": where, "left_out": why, "globals": artifact.globals[:_GLOBALS]})
