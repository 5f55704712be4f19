"""From a reference to the version it means: by the service, or offline by what was seen before."""

import zlib
from contextlib import suppress
from typing import Any

from registry.client.results import Version
from registry.client.seen import SeenAnswers
from registry.client.transport import MAX_ANSWER_BYTES, Transport, route
from registry.errors import InvalidReferenceError, NotFoundError, OfflineError
from registry.names import Reference
from registry.schema import ArtifactManifest, ServiceInfo, VersionInfo, VersionManifest
from registry.teams import WhoAmI


class Resolver:
    """Answers what references mean. Online it always asks; answers are remembered for offline mode."""

    def __init__(self, transport: Transport, seen: SeenAnswers, team: str | None, *, offline: bool) -> None:
        self._transport = transport
        self._seen = seen
        self._team = team
        self._offline = offline

    def online(self) -> Transport:
        """Return the way to the service.

        Raises:
            OfflineError: the client is offline.
        """
        if self._offline:
            raise OfflineError(
                "This needs the service, and the client is offline (WEIGHBRIDGE_OFFLINE or offline=True)."
            )
        return self._transport

    def service(self) -> ServiceInfo:
        """Return who answers; offline, who answered last.

        Raises:
            OfflineError: offline, and the service was never seen.
        """
        if not self._offline:
            service = self._transport.get(ServiceInfo, "")
            self._seen.remember_service(service)
            return service
        found = self._seen.find_service()
        return found if found is not None else self.online().get(ServiceInfo, "")

    def reference(self, text: str) -> Reference:
        """Parse a reference and fill in the team.

        Raises:
            InvalidReferenceError: it is none, or names no team and there is no default.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - torch.save takes the object first
            raise InvalidReferenceError(
                f"The reference comes first and is text, such as 'vision/resnet50:3'; this is a {type(text).__name__}."
            )
        reference = Reference.parse(text, self._team)
        if reference.team is not None:
            return reference
        try:
            self._team = self._default_team()
        except OfflineError:
            self._team = None
        if self._team is None:
            raise InvalidReferenceError(
                f"{text!r} names no team, and you have no default one. Write it like `my-team/{text}`, or set "
                "WEIGHBRIDGE_TEAM."
            )
        return Reference.parse(text, self._team)

    def model(self, text: str) -> Reference:
        """Parse a reference that names a model and nothing of it.

        Raises:
            InvalidReferenceError: it names a version or an artifact too.
        """
        reference = self.reference(text)
        if reference.selector != "latest" or reference.path is not None:
            raise InvalidReferenceError(
                f"{text!r} names a version or a file; here goes a model: `{reference.team}/{reference.model}`."
            )
        return reference

    def _default_team(self) -> str | None:
        """Return the service's default team, else the only one that the caller's roles or token name."""
        service = self.service()
        if service.default_team is not None or self._offline:
            return service.default_team
        who = self._transport.get(WhoAmI, "whoami")
        teams = {target.partition("/")[0] for target in who.targets} or set(who.roles)
        if len(teams) != 1:
            return None
        (only,) = teams
        self._seen.remember_service(service.model_copy(update={"default_team": only}))
        return only

    def version(self, reference: Reference) -> Version:
        """Return the version that a complete reference means.

        Raises:
            NotFoundError: the model, version or alias is not there.
            OfflineError: offline, and the reference was never resolved here.
        """
        if self._offline:
            found = self._seen.find_version(Version, reference)
            if found is None:
                raise OfflineError(
                    f"{reference} was never resolved by this user while online, so its meaning is not in the cache. "
                    "Unset WEIGHBRIDGE_OFFLINE and pull it once."
                )
            return found
        version = self._transport.get(Version, version_route(reference))
        self._seen.remember_version(reference, version)
        return version

    def manifest(self, version: VersionInfo, path: str) -> ArtifactManifest:
        """Return the tensor manifest of one artifact; manifests never change, so a cached one is as good.

        Raises:
            NotFoundError: the artifact is not there or has no manifest.
            OfflineError: offline, and the manifest is not in the cache.
        """
        digest = next((each.manifest for each in version.artifacts if each.path == path), None)
        where = ("models", version.team, version.model, "versions", version.number)
        found = (self._seen.find_manifest(digest) or self._stored_manifest(where, path, digest)) if digest else None
        if digest and found is not None:
            return ArtifactManifest(path=path, digest=digest, manifest=found)
        answer = self.online().get(VersionManifest, route(*where, "manifest"), [("path", path)])
        manifest = answer.artifacts[0]
        self._seen.remember_manifest(manifest.digest, manifest.manifest)
        return manifest

    def _stored_manifest(self, where: tuple[str | int, ...], path: str, digest: str) -> dict[str, Any] | None:
        """Return a manifest by its bytes, which travel compressed; None when those that come are others.

        A service from before that route says that there is no such thing.
        """
        with (
            suppress(NotFoundError, zlib.error),
            self.online().open(
                "GET", route(*where, "manifests", *path.split("/")), headers={"Accept-Encoding": "deflate"}
            ) as incoming,
        ):
            data = incoming.read(MAX_ANSWER_BYTES)
            if incoming.headers.get("Content-Encoding") == "deflate":
                data = zlib.decompressobj().decompress(data, MAX_ANSWER_BYTES)
            return self._seen.take_manifest(digest, data)
        return None


def model_route(reference: Reference, *more: str | int) -> str:
    """Return the path of a model, or of something below it."""
    return route("models", reference.team or "", reference.model, *more)


def version_route(reference: Reference, *more: str | int) -> str:
    """Return the path of a version, or of something below it."""
    return model_route(reference, "versions", reference.selector, *more)
