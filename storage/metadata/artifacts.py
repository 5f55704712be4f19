"""Artifacts in the catalog: where their bytes are, and their tensor manifests."""

import json
import zlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import AmbiguousWeightsError, ArtifactNotFoundError, NoWeightsError
from registry.schema import ArtifactManifest
from storage.metadata.lookup import MAX_SUGGESTIONS, get_model, get_version
from storage.metadata.records import Extent, StoredArtifact
from storage.metadata.session import Transactional, reads
from storage.metadata.shapes import artifact_info
from storage.metadata.tables import ArtifactRow, ExtentRow, ManifestRow, ModelRow, ObjectRow, VersionRow


class Artifacts(Transactional):
    """The part of the catalog that knows artifacts."""

    @reads
    def get_artifact(
        self, session: Session, team: str, model: str, selector: str, path: str, *, include_quarantined: bool = False
    ) -> StoredArtifact:
        """Return an artifact and the extents that its bytes are in, in order.

        Raises:
            ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: there is no such version.
            ArtifactNotFoundError: the version has no artifact at that path; the detail lists those it has.
        """
        row = get_model(session, team, model)
        version = get_version(session, row, selector, include_quarantined=include_quarantined)
        artifact = _get_artifact(session, row, version, path)
        query = (
            select(ObjectRow.location, ExtentRow.offset, ExtentRow.length, ObjectRow.size_bytes, ObjectRow.damaged_at)
            .join(ObjectRow, ObjectRow.id == ExtentRow.object_id)
            .where(ExtentRow.artifact_id == artifact.id)
            .order_by(ExtentRow.position)
        )
        found = session.execute(query).all()
        extents = tuple(Extent(row.location, row.offset, row.length) for row in found)
        is_whole_object = len(found) == 1 and (found[0].offset, found[0].length) == (0, found[0].size_bytes)
        is_damaged = any(row.damaged_at is not None for row in found)
        return StoredArtifact(artifact_info(artifact), extents, version.number, is_whole_object, is_damaged)

    def get_manifests(self, team: str, model: str, selector: str, path: str | None = None) -> list[ArtifactManifest]:
        """Return the manifests of a version's state_dict (several when it is sharded), or that of one artifact.

        Raises:
            ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: there is no such thing.
            AmbiguousWeightsError: several artifacts could be meant; name one.
            NoWeightsError: the version has no weights, or the artifact is none.
        """
        return [
            ArtifactManifest(path=found, digest=digest, manifest=json.loads(zlib.decompress(compressed)))
            for found, digest, compressed in self._compressed_manifests(team, model, selector, path)
        ]

    def get_stored_manifest(self, team: str, model: str, selector: str, path: str) -> tuple[str, bytes]:
        """Return the digest of one artifact's manifest, and the manifest as it is stored: canonical JSON in zlib.

        Raises:
            ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: there is no such thing.
            NoWeightsError: the artifact is no weights.
        """
        ((_, digest, compressed),) = self._compressed_manifests(team, model, selector, path)
        return digest, compressed

    @reads
    def _compressed_manifests(
        self, session: Session, team: str, model: str, selector: str, path: str | None
    ) -> list[tuple[str, str, bytes]]:
        row = get_model(session, team, model)
        version = get_version(session, row, selector)
        full = f"{team}/{model}:{version.number}"
        if path is not None:
            paths = [_get_artifact(session, row, version, path).path]
        else:
            paths = _weights(full, version, _weights_candidates(session, version))
        query = (
            select(ArtifactRow.path, ManifestRow.digest, ManifestRow.compressed)
            .join(ManifestRow, ManifestRow.digest == ArtifactRow.manifest_digest)
            .where(ArtifactRow.version_id == version.id, ArtifactRow.path.in_(paths))
            .order_by(ArtifactRow.position)
        )
        found = [(where, digest, compressed) for where, digest, compressed in session.execute(query)]
        if not found:
            raise NoWeightsError(f"{full}/{path} holds no weights that can be read; download it as it is.")
        return found


def _get_artifact(session: Session, model: ModelRow, version: VersionRow, path: str) -> ArtifactRow:
    query = select(ArtifactRow).where(ArtifactRow.version_id == version.id)
    artifact = session.scalars(query.where(ArtifactRow.path == path)).one_or_none()
    if artifact is not None:
        return artifact
    rows = session.scalars(query.order_by(ArtifactRow.position).limit(MAX_SUGGESTIONS))
    paths = [row.path for row in rows]
    raise ArtifactNotFoundError(
        f"{model.team}/{model.name}:{version.number} has no artifact {path!r}. It has {', '.join(paths)}.",
        paths=paths,
    )


def _weights_candidates(session: Session, version: VersionRow) -> list[str]:
    query = select(ArtifactRow.path).where(ArtifactRow.version_id == version.id)
    return list(session.scalars(query.where(ArtifactRow.manifest_digest.is_not(None)).order_by(ArtifactRow.position)))


def _weights(full: str, version: VersionRow, candidates: list[str]) -> list[str]:
    if version.weights_problem == "ambiguous_weights":
        raise AmbiguousWeightsError(
            f"{full} has several files of weights: {', '.join(candidates[:MAX_SUGGESTIONS])}. Name one with `?path=`.",
            candidates=candidates,
        )
    if version.weights_problem == "no_weights" or not version.weights:
        raise NoWeightsError(f"{full} holds no weights; its files can be downloaded as they are.")
    return version.weights
