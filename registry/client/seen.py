"""What was seen of services before, kept in the cache folder so that offline mode can resolve references.

v1/versions/<host>/<team>/<model>/<selector>.json    the version that the selector last meant
v1/versions/<host>/service.json                      who answered
v1/manifests/<sha256 hex>.json                       tensor manifests, immutable
"""

import contextlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from registry.client.cache import Cache
from registry.digest import sha256_digest
from registry.manifest import encode_manifest
from registry.names import Reference
from registry.schema import ServiceInfo, VersionInfo

ShapeT = TypeVar("ShapeT", bound=BaseModel)

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class SeenAnswers:
    """The last answers of one service. Losing them costs nothing online: they are never read then."""

    def __init__(self, cache: Cache, url: str) -> None:
        parts = urlsplit(url)
        self._cache = cache
        self._folder = cache.root / "versions" / _UNSAFE.sub("_", parts.netloc + parts.path)

    def remember_version(self, reference: Reference, version: VersionInfo) -> None:
        """Keep a version under the selector that led to it, and under its number."""
        data = version.model_dump_json().encode()
        for selector in {reference.selector, str(version.number)}:
            self._write(self._version_file(version.team, version.model, selector), data)

    def find_version(self, shape: type[ShapeT], reference: Reference) -> ShapeT | None:
        """Return what the reference last meant, None if it was never seen."""
        file = self._version_file(reference.team or "", reference.model, reference.selector)
        return _read(shape, file)

    def remember_service(self, service: ServiceInfo) -> None:
        """Keep who answered."""
        self._write(self._folder / "service.json", service.model_dump_json().encode())

    def find_service(self) -> ServiceInfo | None:
        """Return who answered last, None if nobody ever did."""
        return _read(ServiceInfo, self._folder / "service.json")

    def remember_manifest(self, digest: str, manifest: dict[str, Any]) -> None:
        """Keep a manifest if it is what its digest says."""
        found, data = encode_manifest(manifest)
        if found == digest:
            self._write(self._manifest_file(digest), data)

    def take_manifest(self, digest: str, data: bytes) -> dict[str, Any] | None:
        """Keep the canonical bytes of a manifest and return it; None when they are not what the digest says."""
        if sha256_digest(data) != digest:
            return None
        self._write(self._manifest_file(digest), data)
        return json.loads(data)

    def find_manifest(self, digest: str) -> dict[str, Any] | None:
        """Return the manifest with that digest, None if it is not here or damaged."""
        with contextlib.suppress(OSError):
            data = self._manifest_file(digest).read_bytes()
            if sha256_digest(data) == digest:
                return json.loads(data)
        return None

    def _manifest_file(self, digest: str) -> Path:
        return self._cache.root / "manifests" / f"{digest.removeprefix('sha256:')}.json"

    def _version_file(self, team: str, model: str, selector: str) -> Path:
        return self._folder / team / model / f"{_UNSAFE.sub('-', selector)}.json"

    def _write(self, path: Path, data: bytes) -> None:
        # A cache that cannot be written must not break a call that has its answer already.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                file.write(data)
            Path(file.name).replace(path)


def _read(shape: type[ShapeT], path: Path) -> ShapeT | None:
    with contextlib.suppress(OSError, ValidationError):
        return shape.model_validate_json(path.read_bytes())
    return None
