"""Completing an upload: join what was gathered, verify it, make the version. One holder at a time, which may die."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from registry.digest import Sha256Prefix
from registry.errors import (
    ArtifactError,
    AuthenticationRequiredError,
    BlobDamagedError,
    BlobNotFoundError,
    IncompleteUploadError,
    InternalError,
    UnavailableError,
    UploadEndedError,
    WeighbridgeError,
    error_from_problem,
)
from registry.formats.reader import HEAD_BYTES
from registry.schema import VersionCreate, VersionInfo
from storage.access import Caller
from storage.assembled import AssembledBlobs
from storage.garbage import sweep_locations
from storage.metadata.records import Extent, PlannedExtent, Source
from storage.metadata.upload_records import PlannedFileRecord, UploadRecord
from storage.publish import publish_planned
from storage.push import Assembled, Push, Received
from storage.stores import Stores
from storage.uploads.doubting import mark_damaged_sources, stale_plan
from storage.uploads.parts import find_missing, find_upload, list_good_parts

if TYPE_CHECKING:
    from storage.blobs.base import BlobStore

VERIFY_LEASE = timedelta(seconds=45)
"""How long whoever verifies may give no sign of life before another may."""
_SHOWN_PARTS = 20


class Completion(Push):
    """A planned upload that is being verified by `holder`.

    Attributes:
        assembled: the extents of those files of which some was stored before, by what stands in for their location.
    """

    def __init__(self, stores: Stores, caller: Caller, upload: UploadRecord, holder: str) -> None:
        super().__init__(stores, caller, upload.team, upload.model)
        self.upload = upload
        self.holder = holder
        self.assembled: dict[str, Sequence[Extent]] = {}

    @property
    def reading(self) -> Stores:
        """The stores, with what was received at the locations that it is said to be at."""
        if not self.assembled:
            return self.stores
        # Verifying only reads.
        return replace(self.stores, blobs=cast("BlobStore", AssembledBlobs(self.stores.blobs, self.assembled)))

    @property
    def locations(self) -> Sequence[str]:
        """Where its bytes are."""
        return self.upload.locations

    def renew(self) -> None:
        """Keep the verification."""
        self.stores.catalog.extend_verifying(self.upload, self.holder, datetime.now(UTC) + VERIFY_LEASE)


def begin_completing(  # noqa: PLR0917 - an upload is named by three words
    stores: Stores, caller: Caller, team: str, model: str, upload_id: str, holder: str
) -> VersionInfo | Completion | None:
    """Return the version where there is one already, or what is to be verified now; None where somebody is at it.

    Raises:
        UploadNotFoundError, PermissionDeniedError: as for `find_upload`.
        IncompleteUploadError: parts are missing; its extra members say which.
        UploadEndedError: it has expired or was aborted.
        WeighbridgeError: what was wrong with it, where it has failed before.
    """
    upload = find_upload(stores, caller, team, model, upload_id)
    if upload.state == "published" and upload.number is not None:
        return stores.catalog.get_version(
            team, model, str(upload.number), include_deleted=True, include_quarantined=True
        )
    if upload.state == "failed" and upload.problem is not None:
        raise error_from_problem(upload.problem)
    if upload.state not in ("open", "verifying"):
        raise UploadEndedError(f"The upload is {upload.state}. Begin a new one.", state=upload.state)
    if upload.state == "open":
        _require_parts(stores, upload)
    if not stores.catalog.begin_verifying(upload_id, holder, datetime.now(UTC) + VERIFY_LEASE):
        return None
    return Completion(stores, caller, upload, holder)


def complete(completion: Completion) -> VersionInfo:
    """Join, verify, publish. When this raises, the upload has failed for good, or can be completed again.

    Raises:
        UnavailableError: something that is needed is away; the upload can be completed again.
        PlanStaleError: what it was to reuse is damaged; the upload has failed, and can be planned afresh.
        WeighbridgeError: the upload has failed; nothing of it is left.
    """
    try:
        try:
            return _complete(completion)
        except (ArtifactError, BlobNotFoundError, BlobDamagedError) as error:
            if mark_damaged_sources(completion.stores, completion.upload):
                raise stale_plan() from error
            raise
    except (UnavailableError, InternalError, AuthenticationRequiredError):
        _release(completion)
        raise
    except WeighbridgeError as error:
        _fail(completion, error)
        raise
    except BaseException:
        _release(completion)
        raise


def _complete(completion: Completion) -> VersionInfo:
    sources = _find_sources(completion)
    completion.received = [
        _join(completion, file)
        if file.extents is None
        else _assemble(completion, file, file.extents, f"{completion.upload.id}/{position}", sources)
        for position, file in enumerate(completion.upload.files)
    ]
    metadata = VersionCreate.model_validate(completion.upload.document)
    return publish_planned(completion, metadata, (completion.upload.id, completion.holder))


def abort_upload(stores: Stores, caller: Caller, team: str, model: str, upload_id: str) -> None:
    """End an upload that shall become no version; one that has ended already is fine.

    Raises:
        UploadNotFoundError, PermissionDeniedError: as for `find_upload`.
        UploadEndedError: it is being verified, or is a version.
    """
    upload = find_upload(stores, caller, team, model, upload_id)
    if upload.state == "published":
        raise UploadEndedError("The upload is a version already. Delete that.", state=upload.state)
    if stores.catalog.end_upload(upload, "expired"):
        sweep_locations(stores, upload.locations, cancel=False)
    elif upload.state == "verifying":
        raise UploadEndedError("The upload is being verified; wait for the result.", state=upload.state)


def _require_parts(stores: Stores, upload: UploadRecord) -> None:
    for file in upload.files:
        missing = find_missing(stores.blobs, upload, file)
        if missing:
            count = sum(last - first + 1 for first, last in missing)
            raise IncompleteUploadError(
                f"{count} of {file.part_count} parts of {file.path!r} are missing. Send them, then complete again.",
                path=file.path,
                missing=missing[:_SHOWN_PARTS],
            )


def _join(completion: Completion, file: PlannedFileRecord) -> Received:
    """Make a file readable at its location, where it is not yet, and say what is known of it."""
    prefix = _gather(completion, file)
    blobs = completion.stores.blobs
    (head,) = blobs.read_many(file.location, [(0, min(HEAD_BYTES, file.size_bytes))])
    return Received(file.path, file.location, file.size_bytes, None, None, head, prefix, claimed=file.claimed)


def _assemble(
    completion: Completion,
    file: PlannedFileRecord,
    planned: Sequence[PlannedExtent],
    name: str,
    sources: Mapping[int, Source],
) -> Received:
    """Make what was sent of a file readable, and say how it lies with what was stored before."""
    location = None
    if file.send_bytes:
        _gather(completion, file)
        location = file.location
    completion.assembled[name] = [
        Extent(file.location if each.object_id is None else sources[each.object_id].location, each.offset, each.length)
        for each in planned
    ]
    head = b"".join(completion.reading.blobs.stream(name, 0, min(HEAD_BYTES, file.size_bytes)))
    used = tuple(sources[object_id] for object_id in sorted(file.object_ids))
    assembled = Assembled(tuple(planned), used, location, file.send_bytes)
    return Received(file.path, name, file.size_bytes, None, None, head, assembled=assembled, claimed=file.claimed)


def _find_sources(completion: Completion) -> Mapping[int, Source]:
    """Return what the upload reuses, where it lies now.

    Raises:
        PlanStaleError: some of it is not there any more, or damaged.
    """
    object_ids = completion.upload.object_ids
    if not object_ids:
        return {}
    sources = completion.stores.catalog.find_sources(completion.team, object_ids)
    if len(sources) != len(object_ids):
        raise stale_plan()
    return sources


def _gather(completion: Completion, file: PlannedFileRecord) -> Sha256Prefix | None:
    """Join the parts of what was sent, where that is not done yet; return how far it was digested as it came."""
    blobs = completion.stores.blobs
    completion.beat_when_due()
    prefix = completion.stores.prefixes.take(file.location)
    try:
        if prefix is not None and blobs.is_rewritten(file.location, file.multipart_id):
            prefix = None
        parts = list_good_parts(blobs, file)
    except UploadEndedError:  # whoever verified it before has joined it
        prefix = None
    else:
        if len(parts) != file.part_count:
            raise IncompleteUploadError(f"Parts of {file.path!r} are gone. Push it again.")
        blobs.complete_multipart(file.location, file.multipart_id, parts)
    if blobs.size_bytes(file.location) != file.send_bytes:
        raise IncompleteUploadError(f"The parts of {file.path!r} were joined into another size. Push it again.")
    return prefix


def _release(completion: Completion) -> None:
    with suppress(WeighbridgeError):  # its lease ends by itself
        completion.stores.catalog.release_verifying(completion.upload.id, completion.holder)


def _fail(completion: Completion, error: WeighbridgeError) -> None:
    stores, problem = completion.stores, {"code": error.code, "title": error.title, "detail": error.detail}
    with suppress(WeighbridgeError):  # whoever takes it over fails again
        if stores.catalog.end_upload(completion.upload, "failed", {**error.extra, **problem}, completion.holder):
            sweep_locations(stores, completion.locations, cancel=False)
