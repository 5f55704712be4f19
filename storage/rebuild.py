"""Rebuilding a lost catalogue from the records beside the objects. No claim of a record is believed.

Every artifact is read again: its digests, its manifest, its kind and its trust are those of the bytes. What only people
know (numbers, names, metrics, who and when) is the record's.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import cast

from pydantic import ValidationError

from registry.errors import (
    BlobStoreUnavailableError,
    CatalogUnavailableError,
    DigestMismatchError,
    MalformedArtifactError,
    WeighbridgeError,
)
from registry.formats.reader import HEAD_BYTES
from registry.names import check_name, check_path, check_team
from registry.schema import ArtifactInfo, VersionCreate
from registry.weights import is_index_name
from storage.access import Action, Caller
from storage.admission import admit
from storage.assembled import AssembledBlobs
from storage.blobs.base import RECORDS, BlobStore, is_location
from storage.judge import PushRules
from storage.metadata.record_shapes import ModelRecord, RecordedBase, RecordedExtent, VersionRecord
from storage.metadata.records import Extent, NewVersion
from storage.push import Received
from storage.stores import Stores
from storage.verify import Verified, verify

_RECORD = re.compile(rf"{RECORDS}(([^/]+)/([^/]+)/([1-9][0-9]{{0,18}}|model)\.json)")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of one record.

    Attributes:
        name: of the record.
        problem: why it was left out; None where it was not.
        differences: what the bytes say otherwise than the record; the bytes are believed.
    """

    name: str
    problem: str | None = None
    differences: tuple[str, ...] = ()


def rebuild(stores: Stores, caller: Caller) -> Iterator[Rebuilt]:
    """Fill an empty catalogue from the records of its blob store, and yield what became of each record.

    A version of which anything is missing or changed is left out; its record stays where it is. The catalogue must have
    adopted the registry of the blob store when it was opened.

    Raises:
        PermissionDeniedError: the caller is no administrator.
        BlobStoreUnavailableError, CatalogUnavailableError: one does not answer.
    """
    admit(stores, caller, Action.ADMINISTER)
    return _rebuild(stores, caller)


def _rebuild(stores: Stores, caller: Caller) -> Iterator[Rebuilt]:
    found = [match for key in stores.blobs.iter_keys() if (match := _RECORD.fullmatch(key))]
    names = sorted((match[2], match[3], 0 if match[4] == "model" else int(match[4]), match[1]) for match in found)
    bases: list[tuple[str, RecordedBase, RecordedBase]] = []
    adopted = left_out = 0
    for (team, model), several in groupby(names, key=lambda each: each[:2]):
        for _, _, number, name in several:
            version = RecordedBase(team=team, model=model, number=number)
            try:
                if number:
                    record, differences = _adopt_version(stores, caller, name, version)
                    if record.base is not None:
                        bases.append((name, version, record.base))
                    adopted += 1
                    yield Rebuilt(name, differences=differences)
                else:
                    _adopt_model(stores, caller, name, team, model)
            except (BlobStoreUnavailableError, CatalogUnavailableError):
                raise
            except (WeighbridgeError, ValidationError) as error:
                left_out += 1
                yield Rebuilt(name, problem=_tell(error))
    for name, version, base in bases:
        if not stores.catalog.adopt_base(version, base):
            yield Rebuilt(name, differences=(f"its base {base.team}/{base.model}:{base.number} is not there",))
    stores.catalog.note(caller.actor, "installation.rebuild", versions=adopted, left_out=left_out)


def _adopt_model(stores: Stores, caller: Caller, name: str, team: str, model: str) -> None:
    record = ModelRecord.model_validate_json(stores.blobs.read_record(name))
    _check_names(stores, record.registry_id, (record.team, record.model), (team, model))
    stores.catalog.adopt_model(record, caller.actor)


def _adopt_version(
    stores: Stores, caller: Caller, name: str, of: RecordedBase
) -> tuple[VersionRecord, tuple[str, ...]]:
    """Make the version that a record tells of; return the record, and what the bytes say otherwise."""
    record = VersionRecord.model_validate_json(stores.blobs.read_record(name))
    info = record.version
    _check_names(stores, record.registry_id, (info.team, info.model), (of.team, of.model))
    if info.number != of.number or {each.path for each in info.artifacts} != record.extents.keys():
        raise MalformedArtifactError("It contradicts itself, or is called after another version.")
    if info.purged_at is not None or not info.artifacts:
        raise MalformedArtifactError("It is of a version without content.")
    verified = _verify(stores, record)
    manifests = {
        artifact.info.manifest: zlib.compress(artifact.manifest)
        for artifact in verified.artifacts
        if artifact.info.manifest is not None and artifact.manifest is not None
    }
    stores.catalog.adopt_version(_new_version(caller, record, verified), record, manifests)
    return record, tuple(_differences(record, verified))


def _check_names(stores: Stores, registry_id: str, told: tuple[str, str], called: tuple[str, str]) -> None:
    if registry_id != stores.catalog.registry_id():
        raise MalformedArtifactError(f"It is a record of the registry {registry_id}.")
    if told != called:
        raise MalformedArtifactError(f"It is called after another model than it tells of, {'/'.join(told)}.")
    check_team(told[0])
    check_name(told[1], "model name")


def _verify(stores: Stores, record: VersionRecord) -> Verified:
    """Read all artifacts of a version again and return what they are.

    Raises:
        DigestMismatchError: some bytes are others than were recorded.
        BlobNotFoundError, BlobDamagedError: some are not there.
    """
    places = {path: _check_extents(stores, each) for path, each in record.extents.items()}
    for each in record.version.artifacts:
        _check_objects(stores, each, record.extents[each.path])
    # Verifying only reads, and what it reads are artifacts.
    view = AssembledBlobs(stores.blobs, places)
    whole = replace(stores, blobs=cast("BlobStore", view))
    received = [_receive(view, each, places[each.path]) for each in record.version.artifacts]
    try:
        verified = verify(whole, received, _primary(record), lambda: None, PushRules(None, keeps_unsafe=True))
    except MalformedArtifactError as error:
        raise DigestMismatchError(f"Its bytes are others than were recorded, and no weights now: {error}") from error
    for told, found in zip(record.version.artifacts, verified.artifacts, strict=True):
        if found.info.sha256 != told.sha256:
            raise DigestMismatchError(f"{told.path} was {told.sha256} and is {found.info.sha256} now.")
    return verified


def _check_extents(stores: Stores, extents: list[RecordedExtent]) -> list[Extent]:
    sizes: dict[str, int] = {}
    for each in extents:
        if not is_location(each.location) or each.offset < 0 or each.length <= 0:
            raise MalformedArtifactError("It names no place where bytes can be.")
        if each.location not in sizes:
            sizes[each.location] = stores.blobs.size_bytes(each.location)
        size_bytes = sizes[each.location]
        if size_bytes != each.object_bytes or each.offset + each.length > size_bytes:
            raise DigestMismatchError(f"The object at {each.location} has {size_bytes} bytes, not {each.object_bytes}.")
    return [Extent(each.location, each.offset, each.length) for each in extents]


def _receive(view: AssembledBlobs, told: ArtifactInfo, extents: list[Extent]) -> Received:
    """Return an artifact as it lies there, to be digested by whoever verifies it."""
    check_path(told.path)
    size_bytes = sum(extent.length for extent in extents)
    if size_bytes != told.size_bytes:
        raise DigestMismatchError(f"{told.path} had {told.size_bytes} bytes and has {size_bytes} now.")
    [head] = view.read_many(told.path, [(0, min(HEAD_BYTES, size_bytes))])
    return Received(told.path, told.path, size_bytes, None, None, head)


def _check_objects(stores: Stores, told: ArtifactInfo, extents: list[RecordedExtent]) -> None:
    """Read the objects that an artifact lies in; one that it fills was read with it, one that is known before."""
    objects = {(each.location, each.sha256, each.object_bytes): each for each in extents}
    for each in objects.values():
        is_whole = len(extents) == 1 and (each.offset, each.length) == (0, each.object_bytes)
        if (is_whole and each.sha256 == told.sha256) or stores.catalog.has_object(each):
            continue
        sha256 = hashlib.sha256()
        for piece in stores.blobs.stream(each.location):
            sha256.update(piece)
        if f"sha256:{sha256.hexdigest()}" != each.sha256:
            raise DigestMismatchError(f"The object at {each.location} was {each.sha256} and is another now.")


def _primary(record: VersionRecord) -> str | None:
    """Return the artifact that was named as the state_dict, as far as its choice tells; verifying checks it."""
    weights = record.version.weights
    if len(weights) <= 1:
        return weights[0] if weights else None
    folder = weights[0][: weights[0].rfind("/") + 1]
    indexes = [path for path in record.extents if is_index_name(path) and path[: path.rfind("/") + 1] == folder]
    return indexes[0] if len(indexes) == 1 else None


def _new_version(caller: Caller, record: VersionRecord, verified: Verified) -> NewVersion:
    return NewVersion(
        team=record.version.team,
        model=record.version.model,
        by=caller.actor,
        metadata=VersionCreate(),
        artifacts=verified.artifacts,
        kind=verified.kind,
        trust=verified.trust,
        weights=verified.weights,
        weights_problem=verified.weights_problem,
        fingerprint="",
        uses=verified.uses,
    )


def _differences(record: VersionRecord, verified: Verified) -> Iterator[str]:
    """Yield what was found otherwise than recorded: by another reader, or by somebody who changed the record."""
    told: Mapping[str, ArtifactInfo] = {each.path: each for each in record.version.artifacts}
    for artifact in verified.artifacts:
        before = told[artifact.info.path].model_dump()
        changed = [name for name, value in artifact.info.model_dump().items() if before[name] != value]
        if changed:
            yield f"{artifact.info.path} has another {', '.join(changed)}"
    for name in ("kind", "trust"):
        if getattr(verified, name) != getattr(record.version, name):
            yield f"its {name} is {getattr(verified, name)}, not {getattr(record.version, name)}"
    if list(verified.weights) != record.version.weights:
        yield f"its state_dict is {', '.join(verified.weights) or 'not the obvious one'}"


def _tell(error: Exception) -> str:
    return error.detail if isinstance(error, WeighbridgeError) else "It is no record that this version can read."
