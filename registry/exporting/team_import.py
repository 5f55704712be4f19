"""The import itself: the versions of an export that a service lacks are pushed, then its aliases are set."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from registry.client.changes import annotate
from registry.client.connection import Connection
from registry.client.local import Collected
from registry.client.push import say_invalid, send
from registry.client.resolve import model_route
from registry.client.results import Model, Version
from registry.errors import (
    AccessError,
    ArtifactError,
    ConflictError,
    InternalError,
    InvalidMetadataError,
    LimitError,
    ModelExistsError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    PublishInProgressError,
    TeamNotFoundError,
    TooLargeError,
    UnavailableError,
)
from registry.exporting.aliases import lose_aliases, set_aliases
from registry.exporting.documents import ListedModel, ModelDocument, VersionDocument
from registry.exporting.order import ImportOrder, Node
from registry.exporting.outcomes import TeamImport, VersionOutcome
from registry.exporting.present import PresentVersions
from registry.exporting.reading import ExportFolder
from registry.exporting.restated import Restating
from registry.names import Reference, check_team
from registry.paths import expand_home
from registry.schema import ModelCreate, ModelUpdate, VersionCreate
from registry.teams import Role, Scope, WhoAmI

Say = Callable[[str], None]

_OF_ONE_VERSION = (
    ArtifactError, InvalidMetadataError, NotFoundError, PermissionDeniedError, PreconditionFailedError,
    PublishInProgressError, TooLargeError,
)  # fmt: skip
"""Refusals that say nothing of the next version."""
_OF_ALL = (AccessError, ConflictError, InternalError, LimitError, UnavailableError)
"""What the next version would meet, too. Errors of the folder itself are none of these."""


def import_team(
    connection: Connection, folder: Path, *, team: str | None = None, dry_run: bool = False, say: Say | None = None
) -> TeamImport:
    """Push what an export folder holds and the service lacks; every file is verified before it is sent.

    Args:
        connection: the way to the service.
        folder: that an export wrote.
        team: where to; by default the team of the same name.
        dry_run: verify everything, and only say what would be done.
        say: is told of each new version, in a few words.

    Raises:
        InvalidRequestError: the folder is no finished export.
        MalformedArtifactError, DigestMismatchError, InvalidPathError: it is damaged or made up.
        WeighbridgeError: nothing was pushed yet, and the service is away, or the caller may not push there. What ends
            it later is the result's `failure`. The same call goes on.
    """
    return _Import(connection, ExportFolder(expand_home(folder)), team, say or (lambda _: None), dry_run=dry_run).run()


class _Import:
    def __init__(
        self, connection: Connection, folder: ExportFolder, team: str | None, say: Say, *, dry_run: bool
    ) -> None:
        self._connection = connection
        self._transport = connection.resolver.online()
        self._folder = folder
        self._team = check_team(team or folder.info.team)
        self._say = say
        self._dry_run = dry_run
        self._arrived: dict[Node, int] = {}
        self._order = ImportOrder(folder.info.team)
        self._restating = Restating(folder, self._order, self._team, self._arrived)
        self._result = TeamImport(self._team)

    def run(self) -> TeamImport:
        if self._dry_run:
            self._require_pusher()
        documents = [(listed, self._folder.read_model(listed)) for listed in self._folder.info.models]
        nodes = self._find_order(documents)
        is_own = self._connection.resolver.service().registry_id == self._folder.info.registry_id
        present: dict[str, PresentVersions] = {}
        for listed, document in documents:
            model = f"{self._team}/{document.name}"
            present[listed.name] = PresentVersions(self._connection, model, self._folder.info, is_own_registry=is_own)
            self._prepare_model(document, present[listed.name])
        by_name = {listed.name: listed for listed, _ in documents}
        try:
            for name, number in nodes:
                self._take(self._folder.read_version(by_name[name], number), present[name])
            for _, document in documents:
                self._set_aliases(document, present[document.name])
        except _OF_ALL as error:
            self._result.stop(error, len(nodes) - len(self._result.versions))
        return self._result

    def _require_pusher(self) -> None:
        """Raise what the first push would raise, where nothing is pushed."""
        who = self._transport.get(WhoAmI, "whoami")
        role = Role.ADMIN if who.administrator else who.roles.get(self._team)
        if role is None:
            raise _no_team(self._team)
        if not role.reaches(Role.WRITER) or Scope.PUSH not in who.scopes:
            raise PermissionDeniedError(
                f"{who.name} may not push to {self._team}: that takes the role `{Role.WRITER}` there, and a token with "
                f"the scope `{Scope.PUSH}`."
            )

    def _find_order(self, documents: list[tuple[ListedModel, ModelDocument]]) -> list[Node]:
        for listed, document in documents:
            self._order.add(listed.name, document.versions)
        for listed, document in documents:
            for number in document.versions:
                self._order.add_base((listed.name, number), self._folder.read_version(listed, number).base)
        return self._order.nodes()

    def _prepare_model(self, document: ModelDocument, present: PresentVersions) -> None:
        """Make a model that is not there; one that is, or was, keeps what it says of itself and who reads it."""
        if self._dry_run or present.is_there or present.is_deleted:
            return
        route = model_route(Reference(self._team, document.name))
        try:
            create = ModelCreate(description=document.description, tags=document.tags)
            self._transport.call(Model, "PUT", route, body=create)
        except ValidationError as error:
            raise InvalidMetadataError(f"{self._team}/{document.name}: {say_invalid(error)}") from error
        except ModelExistsError:
            return
        except ModelNotFoundError as error:
            raise _no_team(self._team) from error
        if document.visibility == "team":
            return
        try:
            self._transport.call(Model, "PATCH", route, body=ModelUpdate(visibility=document.visibility))
        except PermissionDeniedError as error:
            told = f"{self._team}/{document.name} is read by its team only, and was read by everyone. {error.detail}"
            self._result.refuse(error, told)

    def _take(self, document: VersionDocument, present: PresentVersions) -> None:
        outcome = self._import_version(document, present)
        self._result.versions.append(outcome)
        if outcome.state == "new":
            self._say(f"{outcome.source}: {outcome.reference or 'would be new'}")

    def _import_version(self, document: VersionDocument, present: PresentVersions) -> VersionOutcome:
        missing = next((each for each in document.files if each.file is None), None)
        if missing is not None or not document.files:
            why = f"{missing.path} is not in the export ({missing.left_out})" if missing else "it has no files"
            return VersionOutcome(document.reference, None, "left_out", why)
        if present.is_deleted:
            return VersionOutcome(document.reference, None, "deleted", _restore(f"{self._team}/{document.model}"))
        found = present.find(document)
        if found is None:
            return self._push_version(document, present)
        version, state = found
        return self._arrive(document, version) if state == "there" else _deleted(document, version)

    def _push_version(self, document: VersionDocument, present: PresentVersions) -> VersionOutcome:
        try:
            pushed = self._push(document, present)
        except _OF_ONE_VERSION as error:
            if isinstance(error, PermissionDeniedError) and document.trust == "tensors":
                raise
            self._result.refuse(error)
            return VersionOutcome(document.reference, None, "refused", error.detail)
        if pushed is None:
            return VersionOutcome(document.reference, None, "new")
        if pushed.deleted_at is not None:  # an earlier import made it with the same key, and somebody deleted it since
            return _deleted(document, pushed)
        return self._arrive(document, pushed, is_new=True)

    def _arrive(self, document: VersionDocument, version: Version, *, is_new: bool = False) -> VersionOutcome:
        self._arrived[document.model, document.number] = version.number
        try:
            self._deprecate(version, document)
        except _OF_ONE_VERSION as error:
            self._result.refuse(error, f"{version.reference} is not deprecated as it was: {error.detail}")
        return VersionOutcome(document.reference, version.reference, "new" if is_new else "there")

    def _push(self, document: VersionDocument, present: PresentVersions) -> Version | None:
        """Verify a version's files and push them; None in a dry run."""
        collected = Collected([self._folder.verify(each) for each in document.files])
        metadata = self._restating.restate(document)
        if self._dry_run:
            return None
        # Where the last run died before it heard the answer, the service knows by the key that it is the same push.
        key = _key(document, metadata, present.purged_numbers(document))
        reference = Reference(self._team, document.model)
        return send(self._connection, reference, metadata, collected, idempotency_key=key)

    def _deprecate(self, version: Version, document: VersionDocument) -> None:
        """Deprecate what was deprecated, unless somebody changed what is said of it here."""
        notes = version.annotations
        if self._dry_run or document.deprecated is None or notes.deprecated is not None or notes.revision > 1:
            return
        no_change = {"metrics": None, "tags": None, "description": None}
        annotate(self._connection, version.reference, deprecated=document.deprecated, **no_change)

    def _set_aliases(self, document: ModelDocument, present: PresentVersions) -> None:
        model = Reference(self._team, document.name)
        numbers = {alias.name: self._arrived.get((document.name, alias.version)) for alias in document.aliases}
        outcomes = (
            lose_aliases(model, document, f"{self._team}/{document.name} was deleted here")
            if present.is_deleted
            else set_aliases(
                self._connection, model, document, numbers, self._folder.info, dry_run=self._dry_run
            )
        )  # fmt: skip
        for outcome in outcomes:
            self._result.aliases.append(outcome)
            if outcome.failure is not None:
                self._result.refuse(outcome.failure)


def _restore(reference: str) -> str:
    return f"`weighbridge restore {reference}`"


def _deleted(document: VersionDocument, version: Version) -> VersionOutcome:
    return VersionOutcome(document.reference, version.reference, "deleted", _restore(version.reference))


def _no_team(team: str) -> TeamNotFoundError:
    return TeamNotFoundError(
        f"There is no team {team} that you may push to. An administrator makes one with `weighbridge team create "
        f"{team}`, and an admin of it lets you in; `--team` names another."
    )


def _key(document: VersionDocument, metadata: VersionCreate, purged: list[int]) -> str:
    """Return the `Idempotency-Key` of a push: the same for the same import, until what came of it was purged."""
    said = metadata.model_dump(mode="json")
    files = {each.path: each.sha256 for each in document.files}
    text = json.dumps([said, files, purged], sort_keys=True)
    return f"import-{hashlib.sha256(text.encode()).hexdigest()}"
