"""Parts of an open upload: how to send them, and taking those that come through the service."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain, islice

from registry.errors import ArtifactNotFoundError, InvalidRequestError, UploadEndedError, UploadNotFoundError
from registry.names import check_path
from registry.uploads import PartRequest
from storage.access import Caller
from storage.admission import admit_to_push
from storage.blobs.base import BlobStore
from storage.blobs.gathering import Part, PartWriter
from storage.metadata.upload_records import PlannedFileRecord, UploadRecord
from storage.stores import Stores
from storage.uploads.planning import LIFETIME

URL_SECONDS = 3600
"""How long a part may be sent by a URL of the bucket."""
FIRST_PARTS = 16
"""Of all files of an upload, told with its plan: a small push asks no further question."""


def find_upload(stores: Stores, caller: Caller, team: str, model: str, upload_id: str) -> UploadRecord:
    """Return an upload of the caller's.

    Raises:
        PermissionDeniedError, ModelNotFoundError: they may not push here, or no more.
        UploadNotFoundError: there is none, or it is somebody else's.
    """
    admit_to_push(stores, caller, team, model)
    upload = stores.catalog.find_upload(upload_id)
    if upload is None or (upload.team, upload.model, upload.created_by) != (team, model, caller.name):
        raise UploadNotFoundError(
            f"You have no upload of that id for {team}/{model}. What ended is forgotten after a week; begin a new one."
        )
    return upload


def find_missing(blobs: BlobStore, upload: UploadRecord, file: PlannedFileRecord) -> list[tuple[int, int]]:
    """Return first and last numbers of the parts of a file that are not there.

    Raises:
        UploadEndedError: it is not gathered any more.
    """
    there = {part.number for part in list_good_parts(blobs, file)} if upload.state == "open" else set[int]()
    spans: list[tuple[int, int]] = []
    for number in range(1, file.part_count + 1) if upload.state == "open" else ():
        if number in there:
            continue
        if spans and spans[-1][1] == number - 1:
            spans[-1] = spans[-1][0], number
        else:
            spans.append((number, number))
    return spans


def list_good_parts(blobs: BlobStore, file: PlannedFileRecord) -> list[Part]:
    """Return the parts of a file that are there, in the size that was planned."""
    if not file.send_bytes:
        return []
    parts = blobs.list_parts(file.location, file.multipart_id)
    return [
        part
        for part in parts
        if part.number <= file.part_count and part.size_bytes in (None, file.place(part.number)[1])
    ]


def request_parts(
    stores: Stores, upload: UploadRecord, path: str, numbers: Sequence[int], route: str
) -> list[PartRequest]:
    """Return how to send parts of a file, and give the upload more time.

    Args:
        stores: where it goes.
        upload: open.
        path: the file's path.
        numbers: of the parts.
        route: where the service takes parts of this upload: a path that file and part are added to.

    Raises:
        ArtifactNotFoundError, InvalidRequestError: the upload has no such file, or no such part.
        UploadEndedError: it takes no bytes any more.
    """
    position, file = _find_file(upload, path)
    _require_open(upload)
    stores.catalog.renew_upload(upload, datetime.now(UTC) + LIFETIME)
    for number in numbers:
        _check_number(file, number)
    return [_request_part(stores, upload, position, number, route) for number in numbers]


def request_first_parts(
    stores: Stores, upload: UploadRecord, missing: Sequence[Sequence[tuple[int, int]]], route: str
) -> list[list[PartRequest]]:
    """Return how to send the first parts that are missing, of each file of an upload that was planned just now.

    Args:
        stores: where it goes.
        upload: open.
        missing: of each file the first and last numbers of parts that are not there.
        route: as for `request_parts`.
    """
    left = FIRST_PARTS
    requests: list[list[PartRequest]] = []
    for position, spans in enumerate(missing):
        numbers = chain.from_iterable(range(first, last + 1) for first, last in spans)
        requests.append([_request_part(stores, upload, position, each, route) for each in islice(numbers, left)])
        left -= len(requests[-1])
    return requests


def _request_part(stores: Stores, upload: UploadRecord, position: int, number: int, route: str) -> PartRequest:
    file = upload.files[position]
    offset, length = file.place(number)
    place = {"number": number, "offset": offset, "length": length}
    if upload.direct:
        signed = stores.blobs.presign_part(file.location, file.multipart_id, number, URL_SECONDS)
        told = {"url": signed.url, "headers": signed.headers, "expires_at": signed.expires_at}
    else:
        told = {"url": f"{route}/files/{position}/parts/{number}", "headers": dict[str, str]()}
    return PartRequest.model_validate({"method": "PUT", **place, **told})


def open_part(
    stores: Stores, caller: Caller, upload: UploadRecord, position: int, number: int
) -> tuple[PlannedFileRecord, PartWriter]:
    """Return a file and where the bytes of one of its parts go that come through the service.

    Raises:
        ArtifactNotFoundError, InvalidRequestError: the upload has no such file, or no such part.
        UploadEndedError: it takes no bytes any more.
    """
    if not 0 <= position < len(upload.files):
        raise ArtifactNotFoundError(f"The upload has {len(upload.files)} files, counted from 0.")
    file = upload.files[position]
    _check_number(file, number)
    _require_open(upload)
    writer = stores.blobs.open_part(file.location, file.multipart_id, number, *file.place(number))
    try:
        # Whoever completes the upload from here on waits for this part, or found it missing.
        _require_open(find_upload(stores, caller, upload.team, upload.model, upload.id))
    except BaseException:
        writer.close()
        raise
    return file, writer


def renew_when_due(stores: Stores, upload: UploadRecord) -> None:
    """Give an upload more time when half of it is over: its parts come.

    Raises:
        UnavailableError: it was given up.
    """
    now = datetime.now(UTC)
    if upload.expires_at - now < LIFETIME / 2:
        stores.catalog.renew_upload(upload, now + LIFETIME)


def _find_file(upload: UploadRecord, path: str) -> tuple[int, PlannedFileRecord]:
    path = check_path(path)
    for position, file in enumerate(upload.files):
        if file.path == path:
            return position, file
    raise ArtifactNotFoundError(f"The upload has no file {path!r}; it has what was planned.")


def _check_number(file: PlannedFileRecord, number: int) -> None:
    if not 1 <= number <= file.part_count:
        raise InvalidRequestError(
            f"{file.path!r} has the parts 1 to {file.part_count}, and no part {number}."
            if file.part_count
            else f"Nothing of {file.path!r} is to be sent: all of it is stored."
        )


def _require_open(upload: UploadRecord) -> None:
    if upload.state != "open" or upload.expires_at <= datetime.now(UTC):
        state = upload.state if upload.state != "open" else "expired"
        raise UploadEndedError(f"The upload is {state} and takes no bytes any more.", state=state)
