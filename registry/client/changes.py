"""What changes after a push: annotations, aliases, deletion. Every change says what it expects to find."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from registry.client.connection import Connection
from registry.client.push import plain_metrics, plain_tags, say_invalid
from registry.client.resolve import model_route, version_route
from registry.client.results import Model, Version
from registry.errors import (
    AliasNotFoundError,
    InvalidMetadataError,
    InvalidReferenceError,
    NotFoundError,
    PermissionDeniedError,
)
from registry.names import Reference, check_alias
from registry.schema import AliasInfo, AliasUpdate, AnnotationsUpdate, ModelUpdate, PurgeCreate, PurgeInfo
from registry.teams import Visibility


def annotate(
    connection: Connection,
    ref: str,
    *,
    metrics: Mapping[str, Any] | None,
    tags: Mapping[str, Any] | None,
    description: str | None,
    deprecated: str | None,
) -> Version:
    """Change annotations of a version as it is now.

    Raises:
        PreconditionFailedError: somebody changed them at the same moment.
    """
    given: dict[str, Any] = {}
    if metrics:
        given["metrics"] = plain_metrics(metrics)
    if tags:
        given["tags"] = plain_tags(tags)
    if description is not None:
        given["description"] = description
    if deprecated is not None:
        given["deprecated"] = deprecated or None
    try:
        update = AnnotationsUpdate.model_validate(given)
    except ValidationError as error:
        raise InvalidMetadataError(say_invalid(error)) from error
    transport = connection.resolver.online()
    version = connection.resolver.version(_without_path(connection.resolver.reference(ref)))
    return transport.call(
        Version,
        "PATCH",
        version_route(_numbered(version)),
        body=update,
        headers={"If-Match": f'"{version.annotations.revision}"'},
    )


def move_alias(connection: Connection, ref: str, name: str, reason: str) -> AliasInfo:
    """Point an alias at the version that `ref` means now; making it when it is new.

    Raises:
        InvalidMetadataError: the reason is too long, or no text.
        PreconditionFailedError: somebody moved it at the same moment; the detail names who and when.
    """
    check_alias(name)
    try:
        said = AliasUpdate(version=1, reason=reason)
    except ValidationError as error:
        raise InvalidMetadataError(say_invalid(error)) from error
    transport = connection.resolver.online()
    version = connection.resolver.version(_without_path(connection.resolver.reference(ref)))
    path = model_route(_numbered(version), "aliases", name)
    try:
        current = transport.get(AliasInfo, path)
    except AliasNotFoundError:
        expected = {"If-None-Match": "*"}
    else:
        if current.version == version.number:
            return current
        expected = {"If-Match": f'"{current.revision}"'}
    body = said.model_copy(update={"version": version.number})
    return transport.call(AliasInfo, "PUT", path, body=body, headers=expected)


def remove_alias(connection: Connection, ref: str, name: str) -> None:
    """Remove an alias of a model.

    Raises:
        AliasNotFoundError: there is none of that name.
        PreconditionFailedError: somebody moved it at the same moment.
    """
    transport = connection.resolver.online()
    path = model_route(connection.resolver.model(ref), "aliases", name)
    current = transport.get(AliasInfo, path)
    transport.send("DELETE", path, headers={"If-Match": f'"{current.revision}"'})


def set_visibility(connection: Connection, ref: str, visibility: Visibility) -> Model:
    """Say who may read a model: its team, or everyone who has a token.

    Raises:
        InvalidMetadataError: it is neither `team` nor `everyone`.
    """
    try:
        update = ModelUpdate(visibility=visibility)
    except ValidationError as error:
        raise InvalidMetadataError(say_invalid(error)) from error
    return connection.resolver.online().call(Model, "PATCH", model_route(connection.resolver.model(ref)), body=update)


def delete(connection: Connection, ref: str, *, force: bool = False) -> Model | Version:
    """Delete a version, or the whole model when the reference names none, and return it; `restore` takes it back.

    Raises:
        VersionInUseError: an alias points at the version; or others are based on it, without `force`.
    """
    reference = _without_path(connection.resolver.reference(ref))
    transport = connection.resolver.online()
    if is_whole_model(ref, reference):
        return transport.call(Model, "DELETE", model_route(reference))
    path = version_route(_numbered(connection.resolver.version(reference)))
    return transport.call(Version, "DELETE", path, query=[("force", "true")] if force else ())


def restore(connection: Connection, ref: str) -> Model | Version:
    """Take back the deletion of a version, or of a model when the reference names no version.

    Raises:
        NotDeletedError: it is not deleted, or gone for good.
    """
    reference = _without_path(connection.resolver.reference(ref))
    transport = connection.resolver.online()
    if is_whole_model(ref, reference):
        return transport.call(Model, "POST", model_route(reference, "restore"))
    if reference.version is None:
        raise InvalidReferenceError(f"{ref!r}: a deleted version is restored by its number: `TEAM/MODEL:3`.")
    return transport.call(Version, "POST", version_route(reference, "restore"))


def purge(connection: Connection, ref: str, *, reason: str, now: bool) -> PurgeInfo:
    """Remove the content of a version for good.

    Raises:
        InvalidReferenceError: the reference does not say which version.
        NotDeletedError: it is live and `now` is not given, or it was purged already.
    """
    reference = version_to_purge(connection, ref)
    try:
        body = PurgeCreate(reason=reason.strip(), now=now)
    except ValidationError as error:
        raise InvalidMetadataError(say_invalid(error)) from error
    transport = connection.resolver.online()
    if reference.version is None:
        reference = _numbered(connection.resolver.version(reference))
    return transport.call(PurgeInfo, "POST", version_route(reference, "purge"), body=body)


def version_to_purge(connection: Connection, ref: str) -> Reference:
    """Return the reference of one version, which says itself which: what was pushed last is nothing to guess here.

    Raises:
        InvalidReferenceError: it names a model, the latest version or a file.
    """
    reference = _without_path(connection.resolver.reference(ref))
    if reference.selector == "latest":
        raise InvalidReferenceError(f"{ref!r}: what is purged is named by its number or alias: `TEAM/MODEL:3`.")
    return reference


def find_purgeable(connection: Connection, ref: str) -> Version | None:
    """Return the version that a purge would take, also when it is deleted; None where the caller cannot see it."""
    reference = version_to_purge(connection, ref)
    try:
        return connection.resolver.online().get(Version, version_route(reference), [("deleted", "true")])
    except (NotFoundError, PermissionDeniedError):
        return None


def is_whole_model(ref: str, reference: Reference) -> bool:
    """Return whether a reference names a model only: `resnet50@latest` names a version."""
    return reference.selector == "latest" and "@" not in ref and ":" not in ref


def get_model(connection: Connection, ref: str) -> Model:
    """Return a model.

    Raises:
        ModelNotFoundError: there is none of that name.
    """
    return connection.resolver.online().get(Model, model_route(connection.resolver.reference(ref)))


def _numbered(version: Version) -> Reference:
    return Reference(version.team, version.model, version=version.number)


def _without_path(reference: Reference) -> Reference:
    if reference.path is not None:
        raise InvalidReferenceError(f"{str(reference)!r} names a file; here goes a version, such as `TEAM/MODEL:3`.")
    return reference
