"""Push: files, folders and live PyTorch objects become a new version."""

import logging
import os
import tempfile
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from registry.client.connection import Connection
from registry.client.described import plain_builder, plain_pretrained_cfg
from registry.client.glue import import_capture, import_recipe
from registry.client.local import Collected, collect
from registry.client.progress import Bar, progress_bar
from registry.client.resolve import model_route
from registry.client.results import Version
from registry.client.resuming import remembered_key
from registry.client.tiling import claim_tiles, with_digest
from registry.client.transfer import OutgoingFile, UploadForm, announce
from registry.client.transport import Transport
from registry.client.uploading import Uploader
from registry.errors import InvalidMetadataError
from registry.names import Reference
from registry.schema import VersionCreate
from registry.sizes import format_size

PUBLISH_TIMEOUT_SECONDS = 900.0
"""How long the service may take after the last byte: it may still have to write it to a bucket."""

PLANNED_BYTES = 8 << 20
"""Pushes of less are one request; a plan takes four or more, and pays where something is to be resumed."""

log = logging.getLogger("weighbridge")


class SkippedFilesWarning(UserWarning):
    """Files of a pushed folder were left out."""


def push_files(
    connection: Connection, ref: str, sources: Sequence[str | os.PathLike[str]], details: Mapping[str, Any]
) -> Version:
    """Send files and folders as they are.

    Args:
        connection: the way to the service.
        ref: the model.
        sources: local paths.
        details: members of `VersionCreate`, as the caller gave them.

    Raises:
        WeighbridgeError: see `Client.push`.
    """
    reference = connection.resolver.model(ref)
    metadata = make_metadata(connection, details)
    collected = collect(sources)
    for notice in collected.notices:
        warnings.warn(notice, SkippedFilesWarning, stacklevel=4)
    return send(connection, reference, metadata, collected)


def push_collected(connection: Connection, ref: str, collected: Collected, details: Mapping[str, Any]) -> Version:
    """Send files under the names that they were given.

    Raises:
        WeighbridgeError: see `Client.push`.
    """
    return send(connection, connection.resolver.model(ref), make_metadata(connection, details), collected)


def push_object(
    connection: Connection, ref: str, value: object, details: Mapping[str, Any], *, as_code: bool, unwrap: bool
) -> Version:
    """Serialise a state_dict, module or checkpoint, send it, and keep the file as its cache entry.

    Raises:
        ConfigurationError: PyTorch is not installed.
        WeighbridgeError: see `Client.push`.
    """
    reference = connection.resolver.model(ref)
    make_metadata(connection, details)  # a typing error in a tag should not cost a minute of serialising first
    capture = import_capture()
    cache = connection.cache
    with tempfile.TemporaryDirectory(dir=cache.temporary_folder()) as folder, cache.translated_errors():
        captured = capture.capture(value, Path(folder), as_code=as_code, unwrap=unwrap)
        for notice in captured.notices:
            log.info("%s", notice)
        given = dict(details)
        given["builder"] = given.get("builder") or captured.builder
        given["pretrained_cfg"] = plain_pretrained_cfg(given.get("pretrained_cfg"), captured.pretrained_cfg)
        if given.get("recipe") is None:
            given["recipe"] = import_recipe().recipe_for_push(value, captured.notices)
        metadata = make_metadata(connection, given | {"wrappers": captured.wrappers})
        with captured.path.open("rb") as file:
            os.fsync(file.fileno())
        size_bytes = captured.path.stat().st_size
        outgoing = with_digest(OutgoingFile(captured.path.name, captured.path, size_bytes))
        version = send(connection, reference, metadata, Collected([outgoing], list(captured.notices)))
        cache.adopt(captured.path, outgoing.digest)
    return version


def make_metadata(connection: Connection, details: Mapping[str, Any]) -> VersionCreate:
    """Return the metadata of a push: numbers and words made plain, the base's team filled in.

    Raises:
        InvalidMetadataError: a member does not fit its rules.
    """
    given = {name: value for name, value in details.items() if value is not None}
    given["metrics"] = plain_metrics(given.get("metrics"))
    given["tags"] = plain_tags(given.get("tags"))
    given["builder"] = plain_builder(given.get("builder"))
    given["pretrained_cfg"] = plain_pretrained_cfg(given.get("pretrained_cfg"))
    if "base" in given:
        given["base"] = str(connection.resolver.reference(str(given["base"])))
    try:
        return VersionCreate.model_validate(given)
    except ValidationError as error:
        raise InvalidMetadataError(say_invalid(error)) from error


def plain_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Return metrics as floats, whatever number type (0-dim tensor, numpy scalar) they came as; None stays.

    Raises:
        InvalidMetadataError: one is no number.
    """
    plain: dict[str, float | None] = {}
    for name, value in (metrics or {}).items():
        try:
            plain[name] = None if value is None else float(value)
        except (TypeError, ValueError) as error:
            raise InvalidMetadataError(f"The metric {name!r} is no number: {value!r}.") from error
    return plain


def plain_tags(tags: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Return tags as texts: `True` becomes `true`, a number its digits; None stays."""
    return {
        name: None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (tags or {}).items()
    }


def say_invalid(error: ValidationError) -> str:
    """Return what pydantic found, for a person: `metrics.top1: this is no finite number`."""
    found = [
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors(include_url=False)
    ]
    return "The metadata does not fit: " + "; ".join(found) + "."


def send(
    connection: Connection,
    reference: Reference,
    metadata: VersionCreate,
    collected: Collected,
    *,
    idempotency_key: str | None = None,
) -> Version:
    """Send files and what is said of them as they are; a retry with the same key within 7 days makes nothing new.

    Raises:
        WeighbridgeError: see `Client.push`.
    """
    total = sum(each.size_bytes for each in collected.files)
    transport = connection.resolver.online()
    saved: list[str] = []
    with progress_bar(f"push {reference}", total, wanted=connection.progress) as bar:
        if total < PLANNED_BYTES:
            files = [with_digest(each) for each in collected.files]
            version = _send_form(transport, reference, announce(metadata, files), files, bar, idempotency_key)
        else:
            tiled = claim_tiles(connection.resolver.service(), metadata, collected.files)
            files = [tiled.get(each.path) or with_digest(each) for each in collected.files]
            uploader = Uploader(transport, connection.buckets, bar)
            with remembered_key(connection, reference, metadata, files, idempotency_key) as key:
                version = uploader.upload(reference, metadata, files, [*tiled], key)
            saved = _say_saved(uploader.send_bytes, total)
    return version.model_copy(update={"notices": [*collected.notices, *saved, *version.notices]})


def _say_saved(sent_bytes: int, total_bytes: int) -> list[str]:
    """Return a sentence about what needed not be sent, where there was anything."""
    if sent_bytes >= total_bytes:
        return []
    said = f"{format_size(sent_bytes)} of {format_size(total_bytes)} sent; the rest was stored already."
    log.info("%s", said)
    return [said]


def _send_form(  # noqa: PLR0917 - what a request is made of
    transport: Transport,
    reference: Reference,
    metadata: VersionCreate,
    files: Sequence[OutgoingFile],
    bar: Bar,
    idempotency_key: str | None,
) -> Version:
    form = UploadForm(metadata.model_dump_json(exclude_none=True).encode(), files, bar)
    return transport.call(
        Version,
        "POST",
        model_route(reference, "versions"),
        body=form.iter_body,
        headers={**form.headers, "Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        read_timeout_seconds=PUBLISH_TIMEOUT_SECONDS,
    )


def is_path(value: object) -> bool:
    """Return whether a pushed value is a path, or several, and no live object."""
    if isinstance(value, str | os.PathLike):
        return True
    if not isinstance(value, list | tuple):
        return False
    return all(isinstance(each, str | os.PathLike) for each in cast("Sequence[object]", value))
