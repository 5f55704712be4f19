"""Publish: what a draft received is verified without a database connection, then named in one transaction."""

import hashlib
import json
from collections.abc import Sequence

from registry.errors import (
    DigestMismatchError,
    IdempotencyKeyReusedError,
    IncompleteUploadError,
    InvalidReferenceError,
    NotFoundError,
    PermissionDeniedError,
    SizeMismatchError,
)
from registry.names import Reference, check_alias, check_path
from registry.schema import ArtifactInfo, VersionCreate, VersionInfo
from storage.access import Action, Caller
from storage.admission import admit, admit_to_alias
from storage.draft import Draft
from storage.judge import find_rules
from storage.metadata.records import NewVersion
from storage.push import Push, Received
from storage.stores import Stores
from storage.verify import Verified, verify


def check_metadata(
    stores: Stores, caller: Caller, team: str, model: str, metadata: VersionCreate
) -> tuple[str, str, int] | None:
    """Return team, model and number of the base, when what is said of a version can be so. Nothing is changed.

    Raises:
        InvalidNameError, InvalidPathError: an alias or a path that cannot be.
        InvalidReferenceError, ModelNotFoundError, VersionNotFoundError, AliasNotFoundError: there is no such base.
    """
    for alias in metadata.aliases:
        check_alias(alias)
        admit_to_alias(stores, caller, team, model, alias)
    for path in (*metadata.artifacts, *([metadata.primary] if metadata.primary else [])):
        check_path(path)
    if metadata.base is None:
        return None
    reference = Reference.parse(metadata.base, team)
    if reference.path is not None or reference.team is None:
        raise InvalidReferenceError(f"The base {metadata.base!r} is a version, such as `{team}/{reference.model}:3`.")
    admit(stores, caller, Action.READ, reference.team, reference.model)
    version = stores.catalog.get_version(reference.team, reference.model, reference.selector)
    return version.team, version.model, version.number


def publish(draft: Draft, metadata: VersionCreate) -> VersionInfo:
    """Verify everything that a draft received and make it the next version of its model.

    The caller abandons the draft when this raises.

    Raises:
        ArtifactError: something is wrong with the bytes; each kind has its class.
        IdempotencyKeyReusedError: the key came before with other content or metadata.
        InvalidMetadataError, NotFoundError: what is said of the version cannot be so.
        QuotaExceededError: the team has no room for it.
    """
    draft.recheck()
    if not draft.received:
        raise IncompleteUploadError(
            "No file came. A version has at least one; send it as a form field with a filename."
        )
    check_announced(metadata, draft.received)
    fingerprint = _fingerprint(metadata, draft.received)
    if draft.replay is not None:
        return _replay(draft, draft.replay.number, draft.replay.fingerprint, fingerprint)
    base = check_metadata(draft.stores, draft.caller, draft.team, draft.model, metadata)
    version = _verify_and_name(draft, metadata, base, fingerprint, idempotency=_idempotency(draft))
    draft.finish()
    return version


def publish_planned(push: Push, metadata: VersionCreate, upload: tuple[str, str]) -> VersionInfo:
    """Verify what a planned upload gathered and make it the next version of its model.

    Args:
        push: with all files received.
        metadata: as it was planned; what it announces must be what came.
        upload: id of the upload, and who verifies it.

    Raises:
        WeighbridgeError: as for `publish`.
        UnavailableError: the upload was taken over or given up.
    """
    push.recheck()
    base = check_metadata(push.stores, push.caller, push.team, push.model, metadata)
    version = _verify_and_name(push, metadata, base, "", upload=upload)
    push.finish()
    return version


def _verify_and_name(
    push: Push,
    metadata: VersionCreate,
    base: tuple[str, str, int] | None,
    fingerprint: str,
    *,
    idempotency: tuple[str, str] | None = None,
    upload: tuple[str, str] | None = None,
) -> VersionInfo:
    rules = find_rules(push)
    verified = verify(push.reading, push.received, metadata.primary, push.beat_when_due, rules)
    check_announced(metadata, [artifact.info for artifact in verified.artifacts])
    _make_marks(push.stores, verified)
    push.beat()
    check_metadata(push.stores, push.caller, push.team, push.model, metadata)  # verifying may have taken long
    if find_rules(push) != rules:
        raise PermissionDeniedError(f"The rules of {push.team} changed while this was verified. Push again.")
    return push.stores.catalog.publish(
        NewVersion(
            team=push.team,
            model=push.model,
            by=push.caller.actor,
            metadata=metadata,
            artifacts=verified.artifacts,
            kind=verified.kind,
            trust=verified.trust,
            weights=verified.weights,
            weights_problem=verified.weights_problem,
            fingerprint=fingerprint,
            base_number=base,
            idempotency=idempotency,
            upload=upload,
            notices=(*verified.notices, *_same_content(push, verified)),
            uses=verified.uses,
        )
    )


def _idempotency(draft: Draft) -> tuple[str, str] | None:
    return None if draft.key is None else (draft.caller.name, draft.key)


def _make_marks(stores: Stores, verified: Verified) -> None:
    """Make the marks of architectures that are new to the index now, and not inside the transaction."""
    uses = {use.architecture.digest: use.architecture for use in verified.uses}
    known = stores.catalog.find_known_architectures(list(uses)) if uses else set[str]()
    for digest in uses.keys() - known:
        _ = uses[digest].marks


def check_announced(metadata: VersionCreate, found: Sequence[Received | ArtifactInfo]) -> None:
    """Raise when what was announced is not what came.

    Raises:
        IncompleteUploadError: a file did not come.
        SizeMismatchError, DigestMismatchError: other bytes came.
    """
    by_path = {each.path: each for each in found}
    for path, announced in metadata.artifacts.items():
        came = by_path.get(check_path(path))
        if came is None:
            raise IncompleteUploadError(f"{path!r} was announced and did not come. Send it, or do not announce it.")
        if announced.size_bytes not in (None, came.size_bytes):
            raise SizeMismatchError(
                f"{path!r} was announced with {announced.size_bytes} bytes and came with {came.size_bytes}. "
                "Nothing was stored; send it again.",
                expected=announced.size_bytes,
                actual=came.size_bytes,
            )
        _check_digest(path, "sha256", announced.sha256, came.sha256)
        _check_digest(path, "blake3", announced.blake3, came.blake3)


def _check_digest(path: str, algorithm: str, announced: str | None, actual: str | None) -> None:
    expected = f"{algorithm}:{announced.removeprefix(f'{algorithm}:').lower()}" if announced else None
    if expected not in (None, actual):
        raise DigestMismatchError(
            f"{path!r} came as {actual}, announced was {expected}. Nothing was stored; send it again.",
            expected=expected,
            actual=actual,
        )


def _fingerprint(metadata: VersionCreate, received: Sequence[Received]) -> str:
    """Return the digest of what was asked for: the same push again has the same."""
    asked = {
        "artifacts": {each.path: each.sha256 for each in received},
        "metadata": metadata.model_dump(mode="json", exclude={"artifacts"}),
    }
    return f"sha256:{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()}"


def _replay(draft: Draft, number: int, before: str, now: str) -> VersionInfo:
    if before != now:
        raise IdempotencyKeyReusedError(
            f"This Idempotency-Key led to {draft.team}/{draft.model}:{number}, with other content or metadata. Use a "
            "fresh key for another push."
        )
    return draft.stores.catalog.get_version(
        draft.team, draft.model, str(number), include_deleted=True, include_quarantined=True
    )


def _same_content(push: Push, verified: Verified) -> list[str]:
    """Return a notice when a live version of the model holds exactly these files."""
    contents = {artifact.info.path: artifact.info.sha256 for artifact in verified.artifacts}
    try:
        same = push.stores.catalog.get_version(push.team, push.model, verified.artifacts[0].info.sha256)
    except NotFoundError:
        return []
    if {each.path: each.sha256 for each in same.artifacts} != contents:
        return []
    return [f"{same.reference} has the same content; its bytes are stored once."]
