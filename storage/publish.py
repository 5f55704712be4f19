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
from registry.schema import VersionCreate, VersionInfo
from storage.access import Action, Caller
from storage.admission import admit, admit_to_alias
from storage.draft import Draft, Received
from storage.judge import find_rules
from storage.metadata.records import NewVersion
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
    _check_announced(metadata, draft.received)
    fingerprint = _fingerprint(metadata, draft.received)
    if draft.replay is not None:
        return _replay(draft, draft.replay.number, draft.replay.fingerprint, fingerprint)
    base = check_metadata(draft.stores, draft.caller, draft.team, draft.model, metadata)
    rules = find_rules(draft)
    verified = verify(draft.stores, draft.received, metadata.primary, draft.beat_when_due, rules)
    _make_marks(draft.stores, verified)
    draft.beat()
    check_metadata(draft.stores, draft.caller, draft.team, draft.model, metadata)  # verifying may have taken long
    if find_rules(draft) != rules:
        raise PermissionDeniedError(f"The rules of {draft.team} changed while this was verified. Push again.")
    version = draft.stores.catalog.publish(_new_version(draft, metadata, verified, base, fingerprint))
    draft.finish()
    return version


def _new_version(
    draft: Draft, metadata: VersionCreate, verified: Verified, base: tuple[str, str, int] | None, fingerprint: str
) -> NewVersion:
    return NewVersion(
        team=draft.team,
        model=draft.model,
        by=draft.caller.actor,
        metadata=metadata,
        artifacts=verified.artifacts,
        kind=verified.kind,
        trust=verified.trust,
        weights=verified.weights,
        weights_problem=verified.weights_problem,
        fingerprint=fingerprint,
        base_number=base,
        idempotency=(draft.caller.name, draft.key) if draft.key is not None else None,
        notices=(*verified.notices, *_same_content(draft)),
        uses=verified.uses,
    )


def _make_marks(stores: Stores, verified: Verified) -> None:
    """Make the marks of architectures that are new to the index now, and not inside the transaction."""
    uses = {use.architecture.digest: use.architecture for use in verified.uses}
    known = stores.catalog.find_known_architectures(list(uses)) if uses else set[str]()
    for digest in uses.keys() - known:
        _ = uses[digest].marks


def _check_announced(metadata: VersionCreate, received: Sequence[Received]) -> None:
    """Raise when what was announced is not what came."""
    by_path = {each.path: each for each in received}
    for path, announced in metadata.artifacts.items():
        found = by_path.get(check_path(path))
        if found is None:
            raise IncompleteUploadError(f"{path!r} was announced and did not come. Send it, or do not announce it.")
        if announced.size_bytes not in (None, found.size_bytes):
            raise SizeMismatchError(
                f"{path!r} was announced with {announced.size_bytes} bytes and came with {found.size_bytes}. "
                "Nothing was stored; send it again.",
                expected=announced.size_bytes,
                actual=found.size_bytes,
            )
        expected = f"sha256:{announced.sha256.removeprefix('sha256:').lower()}" if announced.sha256 else None
        if expected not in (None, found.sha256):
            raise DigestMismatchError(
                f"{path!r} came as {found.sha256}, announced was {expected}. Nothing was stored; send it again.",
                expected=expected,
                actual=found.sha256,
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


def _same_content(draft: Draft) -> list[str]:
    """Return a notice when a live version of the model holds exactly these files."""
    contents = {each.path: each.sha256 for each in draft.received}
    try:
        same = draft.stores.catalog.get_version(draft.team, draft.model, draft.received[0].sha256)
    except NotFoundError:
        return []
    if {each.path: each.sha256 for each in same.artifacts} != contents:
        return []
    return [f"{same.reference} has the same content; its bytes are stored once."]
