"""Planning an upload: which parts of which file are to be sent, gathered at locations that have intents."""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.errors import (
    EmptyArtifactError,
    IdempotencyKeyReusedError,
    InvalidPathError,
    InvalidRequestError,
    PlanStaleError,
    RateLimitedError,
    TooLargeError,
)
from registry.names import check_name, check_path, check_team, fold_path
from registry.schema import VersionCreate
from registry.tiles import Tile
from registry.uploads import MAX_PARTS, UploadCreate
from storage.access import Caller
from storage.admission import admit_to_push
from storage.blobs.base import new_location
from storage.draft import check_size
from storage.garbage import sweep_locations
from storage.metadata.pushes import MAX_KEY_LENGTH
from storage.metadata.records import PlannedExtent
from storage.metadata.upload_records import PlannedFileRecord, UploadRecord
from storage.publish import check_metadata
from storage.room import Room
from storage.stores import Stores
from storage.uploads.reusing import check_tiles, find_claimed, find_extents

LIFETIME = timedelta(hours=24)
"""How long an upload waits for its next part."""
MAX_OPEN = 100
"""Uploads of one caller that have not ended."""
MIB = 1 << 20
LOCAL_PART_BYTES = 16 * MIB
"""Through the service into its folder: what is sent again after a broken connection, of each stream."""
DIRECT_PART_BYTES = 16 * MIB
"""Straight to a bucket."""
RELAYED_PART_BYTES = 8 * MIB
"""Through the service into a bucket: it holds a part in memory, of each stream. S3 takes no less than 5 MiB."""
RETRY_SECONDS = 60
PLANS = 3
"""How often it is looked up what is stored, when some of it goes meanwhile; in the end all is sent."""


def plan_upload(  # noqa: PLR0917 - a model is named by two words
    stores: Stores, caller: Caller, team: str, model: str, create: UploadCreate, key: str | None
) -> UploadRecord:
    """Return a new upload, or the one that the same request with this `Idempotency-Key` began.

    Args:
        stores: where it goes.
        caller: who pushes.
        team: the model's team.
        model: the model, which need not exist.
        create: what shall become a version; every announced file with its size.
        key: the `Idempotency-Key`.

    Raises:
        PermissionDeniedError, InvalidNameError: no.
        InvalidRequestError: a file is announced without its size, its tiles do not cover it, or the key is too long.
        EmptyArtifactError, TooLargeError, InvalidPathError: a file cannot be taken.
        QuotaExceededError: the team has no room for it.
        RateLimitedError: the caller has too many uploads open.
        IdempotencyKeyReusedError: the key came before with something else.
    """
    check_team(team)
    check_name(model, "model name")
    admit_to_push(stores, caller, team, model)
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequestError(f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters.")
    fingerprint = _fingerprint(create)
    if key is not None and (known := stores.catalog.find_upload_by_key(caller.name, team, model, key)):
        return _same(known, fingerprint)
    sizes = _check_files(stores, create.metadata)
    tiles = check_tiles(create, sizes)
    check_metadata(stores, caller, team, model, create.metadata)
    Room(stores.catalog.find_team(team)).check(sizes.values())
    if stores.catalog.count_open_uploads(caller.name) >= MAX_OPEN:
        raise RateLimitedError(
            f"{MAX_OPEN} uploads of yours are open. Complete or abort some; they expire after "
            f"{LIFETIME // timedelta(hours=1)} hours.",
            retry_after=RETRY_SECONDS,
        )
    now = datetime.now(UTC)
    upload = UploadRecord(
        id=secrets.token_hex(16),
        team=team,
        model=model,
        created_by=caller.name,
        key=key,
        fingerprint=fingerprint,
        direct=create.direct and stores.is_direct,
        document=create.metadata.model_dump(mode="json"),
        created_at=now,
        expires_at=now + LIFETIME,
        files=(),
    )
    return _same(_begin(stores, caller, upload, sizes, tiles, find_claimed(create.metadata, tiles)), fingerprint)


def _begin(  # noqa: PLR0917 - what `plan_upload` found out
    stores: Stores,
    caller: Caller,
    upload: UploadRecord,
    sizes: Mapping[str, int],
    tiles: Mapping[str, Sequence[Tile]],
    claimed: Mapping[str, Sequence[Tile]],
) -> UploadRecord:
    """Return the upload with its files, kept; or the one that the same request began at the same time."""
    for attempt in range(1, PLANS + 1):
        extents = find_extents(stores, caller, upload.team, tiles if attempt < PLANS else {})
        try:
            return _keep(stores, upload, sizes, extents, claimed)
        except PlanStaleError:  # something has gone between looking it up and pinning it
            if attempt == PLANS:
                raise
    raise AssertionError("the loop ends by return or raise")


def _keep(
    stores: Stores,
    upload: UploadRecord,
    sizes: Mapping[str, int],
    extents: Mapping[str, tuple[PlannedExtent, ...] | None],
    claimed: Mapping[str, Sequence[Tile]],
) -> UploadRecord:
    files = tuple(
        _plan_file(stores, path, size, extents.get(path), claimed.get(path, ()), direct=upload.direct)
        for path, size in sizes.items()
    )
    upload = replace(upload, files=files)
    if upload.locations:
        stores.catalog.begin_writes(upload.locations, upload.team, upload.created_by, upload.expires_at)
    try:
        begun = tuple(_begin_file(stores, file) for file in files)
        kept = stores.catalog.add_upload(replace(upload, files=begun))
    except BaseException:
        sweep_locations(stores, upload.locations, cancel=True)
        raise
    if kept.id != upload.id:  # the same request came twice at once
        sweep_locations(stores, upload.locations, cancel=True)
    return kept


def part_bytes(size_bytes: int, *, direct: bool, can_presign: bool) -> int:
    """Return the size of the parts of a file: the usual one, more where 10,000 of those are too few."""
    usual = DIRECT_PART_BYTES if direct else RELAYED_PART_BYTES if can_presign else LOCAL_PART_BYTES
    needed = -(-size_bytes // MAX_PARTS)
    return max(usual, -(-needed // MIB) * MIB)


def _plan_file(
    stores: Stores,
    path: str,
    size_bytes: int,
    extents: tuple[PlannedExtent, ...] | None,
    claimed: Sequence[Tile],
    *,
    direct: bool,
) -> PlannedFileRecord:
    each = part_bytes(size_bytes, direct=direct, can_presign=stores.blobs.can_presign)
    return PlannedFileRecord(path, size_bytes, each, new_location(), "", extents, tuple(claimed))


def _begin_file(stores: Stores, file: PlannedFileRecord) -> PlannedFileRecord:
    if not file.send_bytes:
        return file
    return replace(file, multipart_id=stores.blobs.begin_multipart(file.location, file.send_bytes))


def _check_files(stores: Stores, metadata: VersionCreate) -> dict[str, int]:
    """Return the announced sizes by path."""
    limits = stores.limits
    if not metadata.artifacts:
        raise InvalidRequestError("An upload has at least one file: announce each with its size under `artifacts`.")
    if len(metadata.artifacts) > limits.max_artifacts:
        raise TooLargeError(f"A version has at most {limits.max_artifacts} files. Push an archive, or several models.")
    sizes: dict[str, int] = {}
    taken: dict[str, str] = {}
    for path, announced in metadata.artifacts.items():
        if announced.size_bytes is None:
            raise InvalidRequestError(f"{path!r} is announced without `size_bytes`, which a plan needs.")
        if not announced.size_bytes:
            raise EmptyArtifactError(f"{path!r} has no bytes. Was it still being written?")
        check_size(announced.size_bytes, limits.max_artifact_bytes, path)
        other = taken.setdefault(fold_path(check_path(path)), path)
        if other != path:
            raise InvalidPathError(f"{other!r} and {path!r} are one name on file systems that ignore case. Rename one.")
        sizes[check_path(path)] = announced.size_bytes
    return sizes


def _same(upload: UploadRecord, fingerprint: str) -> UploadRecord:
    if upload.fingerprint != fingerprint:
        raise IdempotencyKeyReusedError(
            "This Idempotency-Key came before with another upload. Use a fresh key for another one."
        )
    return upload


def _fingerprint(create: UploadCreate) -> str:
    asked: list[Any] = [create.metadata.model_dump(mode="json"), create.direct]
    if create.tiles:  # the answer to the same request without them is another one
        asked.append(create.tiles)
    return f"sha256:{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()}"
