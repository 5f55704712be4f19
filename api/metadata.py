"""What a query or form says of a new version: `metric.top1=0.8`, `tag.data=imagenet`, `alias=prod` and so on."""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from registry.errors import InvalidMetadataError, InvalidRequestError, MalformedArtifactError
from registry.formats.bounded_json import parse_json
from registry.formats.limits import DEFAULT_LIMITS
from registry.schema import VersionCreate

_SHA256_FIELD = re.compile(r"\bsha-256=:([A-Za-z0-9+/=]+):")
_SINGLE = frozenset({"description", "base", "primary"})
_PREFIXES = {"metric.": "metrics", "tag.": "tags"}


def read_fields(fields: Iterable[tuple[str, str]], *, path: str | None = None) -> VersionCreate:
    """Return what the fields say.

    Args:
        fields: names and values, in any order; `alias` may repeat; `metadata` is a JSON `VersionCreate`.
        path: the only artifact, when there is one: then `sha256` is its digest.

    Raises:
        InvalidRequestError: a field that nobody knows.
        InvalidMetadataError: a value that does not fit.
    """
    found: dict[str, Any] = {"metrics": {}, "tags": {}, "aliases": [], "artifacts": {}}
    document: dict[str, Any] = {}
    for name, value in fields:
        if name == "metadata":
            document = _parse_document(value)
        else:
            _take(found, name, value, path)
    merged = {**document, **{name: value for name, value in found.items() if name in _SINGLE}}
    for name in ("metrics", "tags", "artifacts"):
        if found[name]:
            merged[name] = {**_mapping(document.get(name)), **found[name]}
    if found["aliases"]:
        merged["aliases"] = [*(document.get("aliases") or []), *found["aliases"]]
    try:
        return VersionCreate.model_validate(merged)
    except ValidationError as error:
        said = [
            f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()
        ]
        raise InvalidMetadataError(f"The metadata does not fit: {'; '.join(said)}.") from error


def read_repr_digest(header: str | None) -> str | None:
    """Return the SHA-256 (64 hex digits) of a `Repr-Digest` header (RFC 9530), None when it has none.

    Raises:
        InvalidRequestError: it is no digest.
    """
    found = _SHA256_FIELD.search(header or "")
    if found is None:
        return None
    try:
        digest = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 32:  # noqa: PLR2004 - bytes of a SHA-256
        raise InvalidRequestError("`Repr-Digest: sha-256=:…:` takes the 32 bytes of a SHA-256 in base64.")
    return digest.hex()


def _take(found: dict[str, Any], name: str, value: str, path: str | None) -> None:
    """Take one field.

    Raises:
        InvalidRequestError: nobody knows it.
    """
    for prefix, member in _PREFIXES.items():
        if name.startswith(prefix):
            found[member][name.removeprefix(prefix)] = value
            return
    if name in _SINGLE:
        found[name] = value
    elif name == "alias":
        found["aliases"].append(value)
    elif name == "sha256" and path is not None:
        found["artifacts"][path] = {"sha256": value}
    elif name.startswith("sha256."):
        found["artifacts"][name.removeprefix("sha256.")] = {"sha256": value}
    else:
        raise InvalidRequestError(
            f"{name[:100]!r} is unknown here. Use metric.NAME, tag.NAME, description, base, alias, primary or sha256; "
            "a file is a form field with a filename."
        )


def _parse_document(value: str) -> dict[str, Any]:
    try:
        document = parse_json(value.encode(), DEFAULT_LIMITS, "the field `metadata`")
    except MalformedArtifactError as error:
        raise InvalidMetadataError(error.detail) from error
    if not isinstance(document, dict):
        raise InvalidMetadataError("The field `metadata` is a JSON object.")
    return {str(name): member for name, member in document.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - pydantic checks the members


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownArgumentType] - pydantic checks the members
