"""Every failure that Weighbridge names: one tree, one stable wire `code` per class.

The service sends the code as `application/problem+json`; the client raises the class with that code
again (`error_from_problem`). HTTP statuses are the business of `api/errors.py` alone.

    WeighbridgeError
    ├── InvalidRequestError
    │   ├── InvalidNameError
    │   ├── InvalidReferenceError
    │   ├── InvalidPathError
    │   ├── InvalidMetadataError
    │   ├── InvalidCursorError
    │   └── RequestTimeoutError
    ├── NotFoundError
    │   ├── ModelNotFoundError
    │   ├── VersionNotFoundError
    │   ├── AliasNotFoundError
    │   ├── ArtifactNotFoundError
    │   ├── UploadNotFoundError
    │   ├── TeamNotFoundError
    │   ├── UserNotFoundError
    │   ├── IdentityNotFoundError
    │   └── TokenNotFoundError
    ├── AccessError
    │   ├── AuthenticationRequiredError
    │   ├── PermissionDeniedError
    │   └── TrustCodeRequiredError
    ├── ConflictError
    │   ├── ModelExistsError
    │   ├── TeamExistsError
    │   ├── UserExistsError
    │   ├── VersionInUseError
    │   ├── NotDeletedError
    │   ├── IdempotencyKeyReusedError
    │   ├── PublishInProgressError
    │   ├── UploadEndedError
    │   ├── PlanStaleError
    │   ├── PreconditionFailedError
    │   ├── PreconditionRequiredError
    │   └── CollectionRefusedError
    ├── ArtifactError
    │   ├── EmptyArtifactError
    │   ├── MalformedArtifactError
    │   ├── UnsafeArtifactError
    │   ├── AmbiguousWeightsError
    │   ├── NoWeightsError
    │   ├── NotProjectableError
    │   ├── SizeMismatchError
    │   ├── DigestMismatchError
    │   ├── IncompleteUploadError
    │   └── UnsupportedValueError
    ├── LimitError
    │   ├── TooLargeError
    │   ├── QuotaExceededError
    │   ├── RateLimitedError
    │   └── RangeNotSatisfiableError
    ├── UnavailableError
    │   ├── StorageFullError
    │   ├── BlobStoreUnavailableError
    │   ├── BlobNotFoundError
    │   ├── BlobDamagedError
    │   ├── CatalogUnavailableError
    │   ├── ScannerUnavailableError
    │   ├── IdentityProviderUnavailableError
    │   ├── ServerUnreachableError
    │   └── OfflineError
    ├── ConfigurationError
    ├── StateDictMismatchError (also a RuntimeError, as torch raises)
    ├── AmbiguousPrefixError
    └── InternalError
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class WeighbridgeError(Exception):
    """A failure with a stable code and a sentence on what to do.

    Args:
        detail: what happened and what to do about it, for a person.
        extra: further members of the problem document, JSON values (`globals=["os.system"]`).

    Attributes:
        code: the stable word on the wire; never changes once released.
        title: the class of failure in a few words; the same for every occurrence.
        request_id: the service's id of the failed request, when the failure came over the wire.
    """

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Something failed"

    def __init__(self, detail: str, /, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra
        self.request_id: str | None = None


class InvalidRequestError(WeighbridgeError):
    """The request is not well formed."""

    code = "invalid_request"
    title = "Invalid request"


class InvalidNameError(InvalidRequestError):
    """A team, model or alias name that some client could not address."""

    code = "invalid_name"
    title = "Invalid name"


class InvalidReferenceError(InvalidRequestError):
    """A text that is no reference to a model or version."""

    code = "invalid_reference"
    title = "Invalid reference"


class InvalidPathError(InvalidRequestError):
    """An artifact path that is absolute, escapes, collides or is too long."""

    code = "invalid_path"
    title = "Invalid artifact path"


class InvalidMetadataError(InvalidRequestError):
    """Metrics, tags, description or builder that do not fit their rules."""

    code = "invalid_metadata"
    title = "Invalid metadata"


class InvalidCursorError(InvalidRequestError):
    """A page cursor that this service did not hand out."""

    code = "invalid_cursor"
    title = "Invalid cursor"


class RequestTimeoutError(InvalidRequestError):
    """The rest of the request did not come in time."""

    code = "request_timeout"
    title = "Request timeout"


class NotFoundError(WeighbridgeError):
    """Nothing is there, or nothing that the caller may see."""

    code = "not_found"
    title = "Not found"


class ModelNotFoundError(NotFoundError):
    """No such model."""

    code = "model_not_found"
    title = "Model not found"


class VersionNotFoundError(NotFoundError):
    """The model has no such live version."""

    code = "version_not_found"
    title = "Version not found"


class AliasNotFoundError(NotFoundError):
    """The model has no such alias."""

    code = "alias_not_found"
    title = "Alias not found"


class ArtifactNotFoundError(NotFoundError):
    """The version has no artifact at that path."""

    code = "artifact_not_found"
    title = "Artifact not found"


class UploadNotFoundError(NotFoundError):
    """There is no such planned upload, or it is somebody else's."""

    code = "upload_not_found"
    title = "Upload not found"


class TeamNotFoundError(NotFoundError):
    """No such team, or none that the caller belongs to."""

    code = "team_not_found"
    title = "Team not found"


class UserNotFoundError(NotFoundError):
    """No such user, or no such member of the team."""

    code = "user_not_found"
    title = "User not found"


class IdentityNotFoundError(NotFoundError):
    """No such binding of a user to an issuer's subject."""

    code = "identity_not_found"
    title = "Identity not found"


class TokenNotFoundError(NotFoundError):
    """No such token, or none of the caller's."""

    code = "token_not_found"
    title = "Token not found"


class AccessError(WeighbridgeError):
    """The caller may not do this."""

    code = "access_denied"
    title = "Access denied"


class AuthenticationRequiredError(AccessError):
    """No token, or one that the service does not know."""

    code = "authentication_required"
    title = "Authentication required"


class PermissionDeniedError(AccessError):
    """The caller is known and may not do this."""

    code = "permission_denied"
    title = "Permission denied"


class TrustCodeRequiredError(AccessError):
    """Opening the artifact would run code from the file, and the caller did not say `trust_code=True`."""

    code = "trust_code_required"
    title = "This artifact runs code when it is opened"


class ConflictError(WeighbridgeError):
    """The state of the registry does not allow this now."""

    code = "conflict"
    title = "Conflict"


class ModelExistsError(ConflictError):
    """A live model of that name is there already."""

    code = "model_exists"
    title = "Model exists"


class TeamExistsError(ConflictError):
    """The team is there already."""

    code = "team_exists"
    title = "Team exists"


class UserExistsError(ConflictError):
    """The user is there already."""

    code = "user_exists"
    title = "User exists"


class VersionInUseError(ConflictError):
    """An alias points at the version."""

    code = "version_in_use"
    title = "Version in use"


class NotDeletedError(ConflictError):
    """Restore or purge of something that is not deleted, or is already gone."""

    code = "not_deleted"
    title = "Not deleted"


class IdempotencyKeyReusedError(ConflictError):
    """The `Idempotency-Key` came before with other content."""

    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class PublishInProgressError(ConflictError):
    """The first request with this `Idempotency-Key` is still running."""

    code = "publish_in_progress"
    title = "Publish in progress"


class UploadEndedError(ConflictError):
    """The planned upload takes no bytes any more: it is being verified, has ended, or waited too long for them."""

    code = "upload_ended"
    title = "Upload ended"


class PlanStaleError(ConflictError):
    """What a planned upload was to reuse is not there as it was: it has to be planned afresh."""

    code = "plan_stale"
    title = "Plan stale"


class PreconditionFailedError(ConflictError):
    """Somebody changed it since the caller looked."""

    code = "precondition_failed"
    title = "Precondition failed"


class PreconditionRequiredError(ConflictError):
    """The change needs `If-Match` or `If-None-Match`, so that nobody's change is lost."""

    code = "precondition_required"
    title = "Precondition required"


class CollectionRefusedError(ConflictError):
    """More would be collected than recorded deletions explain: rows may have been lost."""

    code = "collection_refused"
    title = "Collection refused"


class ArtifactError(WeighbridgeError):
    """Something is wrong with the bytes of an artifact."""

    code = "artifact_error"
    title = "Artifact error"


class EmptyArtifactError(ArtifactError):
    """A file of zero bytes."""

    code = "empty_artifact"
    title = "Empty artifact"


class MalformedArtifactError(ArtifactError):
    """Weights that cannot be read strictly: truncated, lying about themselves, or no weights at all."""

    code = "malformed_artifact"
    title = "Malformed artifact"


class UnsafeArtifactError(ArtifactError):
    """Loading the file would do harm; `extra["globals"]` names what it refers to."""

    code = "unsafe_artifact"
    title = "Unsafe artifact"


class AmbiguousWeightsError(ArtifactError):
    """Several artifacts or parts could be meant; `extra["candidates"]` lists them."""

    code = "ambiguous_weights"
    title = "Ambiguous weights"


class NoWeightsError(ArtifactError):
    """The version, file or part holds no weights."""

    code = "no_weights"
    title = "No weights"


class SizeMismatchError(ArtifactError):
    """The body is longer or shorter than announced."""

    code = "size_mismatch"
    title = "Size mismatch"


class DigestMismatchError(ArtifactError):
    """The bytes have another digest than announced."""

    code = "digest_mismatch"
    title = "Digest mismatch"


class IncompleteUploadError(ArtifactError):
    """The request body ended before its announced end."""

    code = "incomplete_upload"
    title = "Incomplete upload"


class UnsupportedValueError(ArtifactError):
    """A value that cannot be written or restored; the detail names it."""

    code = "unsupported_value"
    title = "Unsupported value"


class NotProjectableError(ArtifactError):
    """Tensors that no safetensors stream holds as they are; `extra["names"]` lists them."""

    code = "not_projectable"
    title = "Not projectable"


class LimitError(WeighbridgeError):
    """A bound of the service was reached."""

    code = "limit_exceeded"
    title = "Limit exceeded"


class TooLargeError(LimitError):
    """The body or file is larger than the service takes."""

    code = "too_large"
    title = "Too large"


class QuotaExceededError(LimitError):
    """The team has no room for it; `extra` says what is used and what the limit is."""

    code = "quota_exceeded"
    title = "Quota exceeded"


class RateLimitedError(LimitError):
    """Too many requests in a short time, or too many uploads at once; `Retry-After` says when to come again."""

    code = "rate_limited"
    title = "Rate limited"


class RangeNotSatisfiableError(LimitError):
    """The `Range` lies outside the artifact."""

    code = "range_not_satisfiable"
    title = "Range not satisfiable"


class UnavailableError(WeighbridgeError):
    """Something that is needed is away; trying again later may help."""

    code = "unavailable"
    title = "Unavailable"


class StorageFullError(UnavailableError):
    """No room for the bytes; nothing was kept."""

    code = "storage_full"
    title = "Storage full"


class BlobStoreUnavailableError(UnavailableError):
    """The folder or bucket did not answer."""

    code = "blob_store_unavailable"
    title = "Blob store unavailable"


class BlobNotFoundError(UnavailableError):
    """The catalog names bytes that the blob store does not hold."""

    code = "blob_missing"
    title = "Stored bytes are missing"


class BlobDamagedError(UnavailableError):
    """The blob store holds other bytes than were verified once; `fsck` says which versions have them."""

    code = "blob_damaged"
    title = "Stored bytes are damaged"


class CatalogUnavailableError(UnavailableError):
    """The database did not answer."""

    code = "catalog_unavailable"
    title = "Catalog unavailable"


class ScannerUnavailableError(UnavailableError):
    """The worker process that reads weight files could not be started."""

    code = "scanner_unavailable"
    title = "Scanner unavailable"


class IdentityProviderUnavailableError(UnavailableError):
    """Who would say who the caller is does not answer."""

    code = "identity_provider_unavailable"
    title = "Identity provider unavailable"


class ServerUnreachableError(UnavailableError):
    """The client got no answer from the service."""

    code = "server_unreachable"
    title = "Server unreachable"


class OfflineError(UnavailableError):
    """Offline mode, and the cache does not hold what was asked for."""

    code = "offline"
    title = "Not in the cache"


class ConfigurationError(WeighbridgeError):
    """A setting that is missing, contradictory or dangerous."""

    code = "configuration"
    title = "Configuration error"


class StateDictMismatchError(WeighbridgeError, RuntimeError):
    """The weights do not fit the module."""

    code = "state_dict_mismatch"
    title = "State dict mismatch"


class AmbiguousPrefixError(WeighbridgeError):
    """Several renamings would fill the target about as well; `extra["candidates"]` lists them with their counts."""

    code = "ambiguous_prefix"
    title = "Ambiguous prefix"


class InternalError(WeighbridgeError):
    """A bug in the service; the request id finds it in the log."""

    code = "internal_error"
    title = "Internal error"


def iter_error_classes(root: type[WeighbridgeError] = WeighbridgeError) -> Iterator[type[WeighbridgeError]]:
    """Yield `root` and every class below it."""
    yield root
    for child in root.__subclasses__():
        yield from iter_error_classes(child)


def error_from_problem(problem: Mapping[str, Any]) -> WeighbridgeError:
    """Return the error that a problem document (RFC 9457) describes.

    An unknown code, from a newer service, becomes a plain `WeighbridgeError` that keeps the code in `extra`.
    """
    members = dict(problem)
    code = members.pop("code", None)
    detail = str(members.pop("detail", None) or members.get("title") or "The service gave no reason.")
    request_id = members.pop("request_id", None)
    for standard in ("type", "title", "status", "instance"):
        members.pop(standard, None)
    by_code = {each.code: each for each in iter_error_classes()}
    found = by_code.get(str(code))
    if found is None:
        found, members = WeighbridgeError, {**members, "code": code}
    error = found(detail, **members)
    error.request_id = str(request_id) if request_id is not None else None
    return error
