"""The export itself: everything of a team that the caller may read, over the public API, into a folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import ValidationError

from registry.client.connection import Connection
from registry.client.listing import iter_pages, list_alias_moves, list_aliases, list_models
from registry.client.progress import Bar, progress_bar
from registry.client.resolve import model_route
from registry.client.results import Model, Version
from registry.client.transfer import receive_artifact
from registry.client.transport import route
from registry.errors import (
    AliasNotFoundError,
    BlobNotFoundError,
    DigestMismatchError,
    ModelNotFoundError,
    PermissionDeniedError,
    ServerUnreachableError,
    TeamNotFoundError,
    VersionNotFoundError,
    WeighbridgeError,
)
from registry.exporting.answered import checked_digest, find_fate, require_same
from registry.exporting.described import describe_rules, describe_version
from registry.exporting.documents import (
    MODEL_NAME,
    Counts,
    ExportInfo,
    LeftOutVersion,
    ListedAlias,
    ListedModel,
    ModelDocument,
)
from registry.exporting.placing import place_files, place_models
from registry.exporting.writing import OutputFolder
from registry.names import Reference, check_team
from registry.paths import expand_home
from registry.schema import ArtifactInfo, Page
from registry.teams import TeamInfo, WhoAmI

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TeamExport:
    """What came of an export.

    Attributes:
        folder: that holds it.
        info: what the folder says of itself.
        copied_files: that were fetched by this run; the others were there already.
        copied_bytes: of these.
        notices: what the user should know, as sentences.
        failure: why the first file could not be had that the service should have; None when there was none.
    """

    folder: Path
    info: ExportInfo
    copied_files: int
    copied_bytes: int
    notices: list[str] = field(default_factory=list[str])
    failure: WeighbridgeError | None = None


def export_team(
    connection: Connection, team: str, folder: Path, *, models: Sequence[str] = (), say: Say | None = None
) -> TeamExport:
    """Write a team's models as plain files and JSON; what is in the folder already and is right is left as it is.

    Args:
        connection: the way to the service.
        team: whose models.
        folder: new, empty, or with an earlier or unfinished export of the same team.
        models: globs; only models of such names.
        say: is told of each model, in a sentence.

    Raises:
        TeamNotFoundError, ModelNotFoundError: there is nothing of it that the caller may see.
        InvalidRequestError: the folder holds something else, or cannot be written.
        InvalidNameError, InvalidPathError: the service sent a name that would lead out of the folder.
        StorageFullError: the disk filled up; the same call goes on later.
        WeighbridgeError: the service refused, or is away.
    """
    try:
        return _Export(connection, check_team(team), folder, list(models), say or (lambda _: None)).run()
    except ValidationError as error:  # a number below 1, say: the service's answers are checked for less
        raise ServerUnreachableError(
            f"What answered at {connection.settings.url} is no Weighbridge service."
        ) from error


class _Export:
    def __init__(self, connection: Connection, team: str, folder: Path, globs: list[str], say: Say) -> None:
        self._connection = connection
        self._transport = connection.resolver.online()
        self._team = team
        self._out = OutputFolder(expand_home(folder))
        self._globs = globs
        self._say = say
        self._counts = dict.fromkeys(Counts.model_fields, 0)
        self._kept = 0
        self._notices: list[str] = []
        self._failure: WeighbridgeError | None = None

    def run(self) -> TeamExport:
        found = self._find_team()
        models = self._list_models(known=found is not None)
        service = self._connection.resolver.service()
        info = ExportInfo(
            finished=False,
            team=self._team,
            registry_id=service.registry_id,
            service_url=self._connection.settings.url,
            service_version=service.version,
            exported_at=datetime.now(UTC),
            exported_by=self._transport.get(WhoAmI, "whoami").name,
            only_models=self._globs,
            rules=None if found is None else describe_rules(found),
        )
        self._out.begin(info)
        gone = self._find_gone({each.name for each in models})
        folders = place_models([*(each.name for each in models), *(each.name for each in gone)])
        chosen = [each for each in models if self._is_chosen(each.name)]
        listed = [
            ListedModel(name=each.name, folder=folders[each.name]) for each in chosen if self._export(each, folders)
        ]
        listed += [each for each in gone if folders[each.name] == each.folder and self._keep_model(each)]
        finished = info.model_copy(update={"finished": True, "counts": self._count(found), "models": listed})
        self._out.finish(finished)
        self._look_back()
        out = self._out
        return TeamExport(out.root, finished, out.copied_files, out.copied_bytes, self._notices, self._failure)

    def _find_team(self) -> TeamInfo | None:
        try:
            return self._transport.get(TeamInfo, route("teams", self._team))
        except (TeamNotFoundError, PermissionDeniedError):
            return None  # what everyone may read of it can be exported all the same

    def _list_models(self, *, known: bool) -> list[Model]:
        found = list_models(self._connection, team=self._team)
        if any(each.team != self._team for each in found):
            raise ServerUnreachableError(f"The service answered with models of other teams than {self._team}.")
        if not found and not known:
            raise TeamNotFoundError(f"There is no team {self._team}, or nothing in it that you may read.")
        if self._globs and not any(self._is_chosen(each.name) for each in found):
            raise ModelNotFoundError(
                f"No model of {self._team} that you may read is called {' or '.join(self._globs)}."
            )
        return found

    def _is_chosen(self, name: str) -> bool:
        return not self._globs or any(fnmatchcase(name, glob) for glob in self._globs)

    def _export(self, model: Model, folders: dict[str, str]) -> bool:
        """Export a model; return whether it was still there."""
        try:
            document = self._export_model(model, folders[model.name])
        except ModelNotFoundError:
            self._notices.append(f"{model.full_name} was deleted meanwhile, so it is left out.")
            return False
        self._out.write_document(f"{folders[model.name]}/{MODEL_NAME}", document)
        self._counts["models"] += 1
        count = len(document.versions)
        self._say(f"{model.full_name}: {count} version{'' if count == 1 else 's'}")
        return True

    def _export_model(self, model: Model, folder: str) -> ModelDocument:
        aliases = self._list_aliases(model)  # before the versions: so none points at a version that is not listed yet
        kept: list[int] = []
        left_out: list[LeftOutVersion] = []
        path = model_route(Reference(model.team, model.name), "versions")
        query = [("sort", "number"), ("deleted", "true")]
        for version in iter_pages(self._transport, Page[Version], path, query, None):
            why = find_fate(version) or self._export_version(Reference(model.team, model.name, version.number), folder)
            if why is None or self._keep_version(model.name, folder, version.number):
                kept.append(version.number)
            else:
                left_out.append(LeftOutVersion(number=version.number, why=why))
            self._kept += version.purged_at is None
        self._counts["versions"] += len(kept)
        self._counts["versions_left_out"] += len(left_out)
        said = model.model_dump(
            include={"team", "name", "description", "visibility", "tags", "created_at", "created_by"}
        )
        return ModelDocument.model_validate(said | {"aliases": aliases, "versions": kept, "left_out": left_out})

    def _find_gone(self, names: set[str]) -> list[ListedModel]:
        """Return the models of the earlier export in the folder that the service does not show any more."""
        earlier = self._out.earlier
        return [] if earlier is None else [each for each in earlier.info.models if each.name not in names]

    def _keep_model(self, listed: ListedModel) -> bool:
        """Keep what the folder holds of a model that is gone; return whether it holds anything."""
        assert self._out.earlier is not None  # noqa: S101 - `_find_gone` found it there
        try:
            document = self._out.earlier.read_model(listed)
        except WeighbridgeError:
            return False
        kept = [each for each in document.versions if self._keep_version(listed.name, listed.folder, each)]
        if kept:
            path = f"{listed.folder}/{MODEL_NAME}"
            self._out.write_document(path, document.model_copy(update={"versions": kept}))
            self._counts["models"] += 1
            self._counts["versions"] += len(kept)
        return bool(kept)

    def _keep_version(self, model: str, folder: str, number: int) -> bool:
        """Keep a version that is gone on the service and complete in the folder; return whether it is."""
        document = self._out.keep_version(model, folder, number)
        if document is None:
            return False
        self._counts["files"] += len(document.files)
        self._counts["size_bytes"] += sum(each.size_bytes for each in document.files)
        self._notices.append(f"{document.reference} is gone on the service, and stays in the folder.")
        return True

    def _list_aliases(self, model: Model) -> list[ListedAlias]:
        listed: list[ListedAlias] = []
        for each in list_aliases(self._connection, model.full_name):
            try:
                moves = list_alias_moves(self._connection, model.full_name, each.name, limit=None)
            except AliasNotFoundError:
                continue
            alias = {"name": each.name, "version": each.version, "moved_at": each.updated_at, "history": list(moves)}
            listed.append(ListedAlias.model_validate(alias | {"moved_by": each.updated_by}))
        return listed

    def _export_version(self, reference: Reference, model_folder: str) -> str | None:
        """Write a version; return why it was left out, None when it was not."""
        try:
            # Alone it is described in full: lists leave out the names of classes.
            version = self._transport.get(Version, model_route(reference, "versions", reference.version or 0))
            require_same(version, reference)
            folder = f"{model_folder}/{version.number}"
            places = place_files(folder, {each.path: checked_digest(each) for each in version.artifacts})
            with progress_bar(f"export {reference}", version.size_bytes, wanted=self._connection.progress) as bar:
                found = {each.path: self._fetch(version, each, places[each.path], bar) for each in version.artifacts}
        except VersionNotFoundError:
            return "deleted while the export ran"
        left_out = {path: why for path, why in found.items() if why is not None}
        self._out.write_document(f"{folder}.json", describe_version(version, places, left_out))
        self._counts["files"] += len(found) - len(left_out)
        self._counts["files_left_out"] += len(left_out)
        self._counts["size_bytes"] += sum(each.size_bytes for each in version.artifacts if each.path not in left_out)
        return None

    def _fetch(self, version: Version, artifact: ArtifactInfo, place: str, bar: Bar) -> str | None:
        """Bring a file into the folder; return why it was left out, None when it was not."""
        if version.quarantined_at is not None or artifact.trust == "unsafe":
            return "in quarantine: it would do harm when it is loaded"
        if self._out.holds(place, artifact.sha256, artifact.size_bytes):
            bar.advance(artifact.size_bytes)
            return None
        try:
            with self._out.writer(place, artifact.sha256, artifact.size_bytes) as writer:
                receive_artifact(self._transport, writer, version, artifact, bar)
        except PermissionDeniedError as error:
            if artifact.trust == "tensors":
                raise
            return error.detail
        except (BlobNotFoundError, DigestMismatchError) as error:
            self._failure = self._failure or error
            self._notices.append(f"{version.reference} lacks {artifact.path!r}: {error.detail}")
            return error.detail
        return None

    def _count(self, team: TeamInfo | None) -> Counts:
        counts = dict(self._counts)
        not_shown = None if team is None or self._globs else max(0, team.version_count - self._kept)
        return Counts.model_validate(counts | {"versions_not_shown": not_shown})

    def _look_back(self) -> None:
        strangers = self._out.count_strangers()
        if strangers:
            self._notices.append(
                f"Files in {str(self._out.root)!r} that do not belong to this export: {strangers}. They are of an "
                "earlier one, and SHA256SUMS does not name them."
            )
