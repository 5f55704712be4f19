"""Reading what is published: where an artifact's bytes are, and streaming any range of it."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from registry.errors import BlobDamagedError, PermissionDeniedError
from registry.schema import ArtifactManifest, VersionInfo, VersionManifest
from registry.teams import Role
from storage.access import Action, Caller, Resource, may
from storage.admission import admit, is_member, reaches, sees_quarantine
from storage.blobs.base import BlobStore, FilePiece
from storage.metadata.records import Extent, StoredArtifact
from storage.metadata.resolving import Told
from storage.run_reading import PieceT, Stream, iter_runs
from storage.stores import Stores
from storage.tokens import recheck

RECHECK_SECONDS = 5.0
"""How long a download goes on at most after its caller lost the right to it."""


def get_artifact(  # noqa: PLR0917 - an artifact is named by four words
    stores: Stores, caller: Caller, team: str, model: str, selector: str, path: str
) -> StoredArtifact:
    """Return an artifact and where its bytes are.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: it is not there.
        BlobDamagedError: its bytes are known to be gone or changed.
    """
    admit(stores, caller, Action.READ, team, model)
    shown = sees_quarantine(caller, team)
    artifact = stores.catalog.get_artifact(team, model, selector, path, include_quarantined=shown)
    if artifact.is_damaged:
        raise damaged(f"{path} of {team}/{model}:{artifact.version_number}")
    return artifact


def open_artifact(  # noqa: PLR0917 - an artifact is named by four words
    stores: Stores, caller: Caller, team: str, model: str, selector: str, path: str
) -> StoredArtifact:
    """Return an artifact for somebody who takes its bytes. What runs code when it is opened goes into the audit.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: it is not there.
        PermissionDeniedError: it runs code, and the team lets others open that.
    """
    artifact = get_artifact(stores, caller, team, model, selector, path)
    if artifact.info.trust != "tensors":
        require_open(stores, caller, team, artifact)
        what: dict[str, Any] = {"team": team, "model": model, "version": artifact.version_number}
        what |= {"path": path, "sha256": artifact.info.sha256}
        if artifact.info.trust == "code":
            stores.catalog.note(caller.actor, "code.open", **what)
        else:
            stores.catalog.note(caller.actor, "unsafe.open", **what)
    return artifact


def require_open(stores: Stores, caller: Caller, team: str, artifact: StoredArtifact) -> None:
    """Raise when the caller may not take the bytes of what is not only tensors."""
    path, sha256 = artifact.info.path, artifact.info.sha256
    rules = stores.catalog.find_team(team)
    least = rules.code_opened_by if rules is not None else Role.READER
    if least != Role.READER and not reaches(caller, team, least):
        raise PermissionDeniedError(
            f"{path} runs code when it is opened, and {team} lets only those with the role `{least}` download that."
        )
    if artifact.info.trust == "unsafe" and not (
        sees_quarantine(caller, team) and stores.catalog.has_override(team, sha256)
    ):
        raise PermissionDeniedError(
            f"{path} would do harm when it is loaded and is kept in quarantine. To download it all the same, an admin "
            f"of {team} records why: `weighbridge quarantine override {team} {sha256} --reason …`."
        )


def iter_while_admitted(  # noqa: PLR0917 - an artifact is named by four words
    stores: Stores, caller: Caller, team: str, model: str, artifact: StoredArtifact, pieces: Iterator[PieceT]
) -> Iterator[PieceT]:
    """Yield the pieces of an artifact as long as the caller may take them, which is looked at every few seconds.

    Raises:
        AuthenticationRequiredError, PermissionDeniedError, ModelNotFoundError: they may no more.
    """
    due = time.monotonic() + RECHECK_SECONDS
    for piece in pieces:
        if time.monotonic() >= due:
            caller = recheck(stores, caller)
            admit(stores, caller, Action.READ, team, model)
            if artifact.info.trust != "tensors":
                require_open(stores, caller, team, artifact)
            due = time.monotonic() + RECHECK_SECONDS
        yield piece


def get_manifest(  # noqa: PLR0917 - an artifact is named by four words
    stores: Stores, caller: Caller, team: str, model: str, selector: str, path: str | None
) -> VersionManifest:
    """Return the tensor manifests of one artifact, or of those that make up the version's state_dict.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: it is not there.
        NoWeightsError, AmbiguousWeightsError: none, or several, could be meant.
    """
    admit(stores, caller, Action.READ, team, model)
    version = stores.catalog.get_version(team, model, selector)
    number = str(version.number)  # an alias may move between the two questions
    manifests: list[ArtifactManifest] = stores.catalog.get_manifests(team, model, number, path)
    return VersionManifest(team=team, model=model, number=version.number, artifacts=manifests)


def get_stored_manifest(  # noqa: PLR0917 - an artifact is named by four words
    stores: Stores, caller: Caller, team: str, model: str, selector: str, path: str
) -> tuple[str, bytes]:
    """Return the digest of an artifact's tensor manifest, and its canonical JSON as zlib compressed it.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError, ArtifactNotFoundError: it is not there.
        NoWeightsError: the artifact is no weights.
    """
    admit(stores, caller, Action.READ, team, model)
    return stores.catalog.get_stored_manifest(team, model, selector, path)


def get_version(
    stores: Stores, caller: Caller, team: str, model: str, selector: str, *, include_deleted: bool = False
) -> VersionInfo:
    """Return the version that `3`, `v3`, `latest`, an alias or `sha256:…` means.

    Raises:
        ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: nothing is meant.
    """
    admit(stores, caller, Action.READ, team, model)
    shown, deleted = sees_quarantine(caller, team), include_deleted and is_member(caller, team)
    return stores.catalog.get_version(team, model, selector, include_deleted=deleted, include_quarantined=shown)


def find_told(
    stores: Stores, caller: Caller, team: str, model: str, selector: str, *, at_once: bool = False
) -> Told | None:
    """Return what was told of a live version, while that still holds; None for all that `get_version` finds out.

    What is in no quarantine is told in the same words to all who may read the model. With `at_once` for whoever must
    not wait: None also where that would take waiting.
    """
    if not may(caller, Action.READ, Resource(team, model, "everyone")):
        return None
    is_admitted = may(caller, Action.READ, Resource(team, model))
    return stores.catalog.find_told(team, model, selector, is_admitted=is_admitted, at_once=at_once)


def iter_range(blobs: BlobStore, extents: Sequence[Extent], offset: int, length: int) -> Iterator[bytes]:
    """Yield a byte range of an artifact in pieces of at most 1 MiB, read ahead where it lies in several places.

    Raises:
        BlobNotFoundError: its bytes are gone. BlobDamagedError: some of them. BlobStoreUnavailableError: the store does
            not answer.
    """
    return _iter_range(blobs, runs_of(extents, offset, length), blobs.stream)


def iter_range_of_files(
    blobs: BlobStore, extents: Sequence[Extent], offset: int, length: int
) -> Iterator[bytes | FilePiece]:
    """Yield a byte range as `iter_range` does, with pieces of files instead of bytes where much lies in one.

    Raises:
        BlobNotFoundError, BlobDamagedError, BlobStoreUnavailableError: as for `iter_range`.
    """
    return _iter_range(blobs, runs_of(extents, offset, length), blobs.stream_files)


def _iter_range(blobs: BlobStore, runs: Sequence[Extent], stream: Stream[PieceT]) -> Iterator[bytes | PieceT]:
    try:
        if len(runs) == 1:
            yield from stream(runs[0].location, runs[0].offset, runs[0].length)
        else:
            yield from iter_runs(blobs, runs, stream)
    except ValueError as error:  # the object ends before it should
        raise damaged("What was asked for") from error


def damaged(what: str) -> BlobDamagedError:
    """Return the error for stored bytes that are gone or changed."""
    return BlobDamagedError(
        f"{what} cannot be handed out: its stored bytes are damaged. Push the same file again to mend it, or have the "
        "object brought back from a backup."
    )


def runs_of(extents: Sequence[Extent], offset: int, length: int) -> list[Extent]:
    """Return the extents that cover a range, cut to it, neighbours in one object joined."""
    runs: list[Extent] = []
    start, end = 0, offset + length
    for extent in extents:
        first, last = max(offset, start), min(end, start + extent.length)
        if first < last:
            piece = Extent(extent.location, extent.offset + first - start, last - first)
            previous = runs[-1] if runs else None
            if previous and (previous.location, previous.offset + previous.length) == (piece.location, piece.offset):
                runs[-1] = Extent(previous.location, previous.offset, previous.length + piece.length)
            else:
                runs.append(piece)
        start += extent.length
    return runs


def get_registry_id(stores: Stores, caller: Caller) -> str:
    """Return the id of this registry."""
    del caller  # whoever got in may know where they are
    return stores.catalog.registry_id()
