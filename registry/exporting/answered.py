"""What a service answered about versions and files, checked before anything is written by it."""

from registry.client.results import Version
from registry.digest import is_digest
from registry.errors import ServerUnreachableError
from registry.names import Reference
from registry.schema import ArtifactInfo


def find_fate(version: Version) -> str | None:
    """Return why the files of a version cannot be had."""
    if version.purged_at is not None:
        return f"purged on {version.purged_at:%Y-%m-%d}"
    if version.deleted_at is not None:
        return f"deleted on {version.deleted_at:%Y-%m-%d}"
    return None


def require_same(version: Version, reference: Reference) -> None:
    """Raise `ServerUnreachableError` when a service answered with another version than it was asked for."""
    same = (version.team, version.model, version.number) == (reference.team, reference.model, reference.version)
    if not same or not 1 <= version.number < 1 << 63:
        raise ServerUnreachableError(f"The service was asked for {reference} and answered with {version.reference}.")


def checked_digest(artifact: ArtifactInfo) -> str:
    """Return the SHA-256 that a service gives a file; raises `ServerUnreachableError` when it is none."""
    if not is_digest(artifact.sha256) or not artifact.sha256.startswith("sha256:"):
        raise ServerUnreachableError(f"The service gives {artifact.path!r} a digest that is none.")
    return artifact.sha256
