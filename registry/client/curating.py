"""The client's methods that find models and change what may change of them; no weights move."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from registry.client import changes, listing
from registry.client.connected import Connected
from registry.client.results import Listing, Model, Version
from registry.schema import AliasInfo, AliasMove, PurgeInfo
from registry.teams import Visibility


class Curating(Connected):
    """Models, versions, aliases and annotations."""

    def list(
        self,
        *,
        team: str | None = None,
        tags: Mapping[str, str] | None = None,
        kind: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Listing[Model]:
        """Return the models that match everything given, of all teams unless one is named."""
        return listing.list_models(self.connection, team=team, tags=tags, kind=kind, sort=sort, limit=limit)

    def search(self, text: str, *, team: str | None = None, limit: int | None = None) -> Listing[Model]:
        """Return the models whose name, description or tags hold the text."""
        return listing.list_models(self.connection, search=text, team=team, limit=limit)

    def model(self, ref: str) -> Model:
        """Return a model: description, tags, latest version."""
        return changes.get_model(self.connection, ref)

    def show(self, ref: str) -> Version:
        """Return a version: artifacts, annotations, aliases, base."""
        return self.connection.resolver.version(self.connection.resolver.reference(ref))

    def versions(
        self, ref: str, *, sort: str = "-number", limit: int | None = None, deleted: bool = False
    ) -> Listing[Version]:
        """Return a model's versions, sorted by `number`, `created` or `metrics.NAME`; a leading `-` is descending."""
        return listing.list_versions(self.connection, ref, sort=sort, limit=limit, deleted=deleted)

    def best(self, ref: str, metric: str, *, mode: Literal["min", "max"] = "max") -> Version:
        """Return the version with the lowest or highest value of a metric; deprecated ones do not count."""
        return listing.best_version(self.connection, ref, metric, mode)

    def annotate(
        self,
        ref: str,
        *,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str | None] | None = None,
        description: str | None = None,
        deprecated: str | None = None,
    ) -> Version:
        """Change what may change of a version. What is left out stays.

        Args:
            ref: the version.
            metrics: to set; None removes.
            tags: to set; None removes.
            description: the new one.
            deprecated: why it should not be used any more; an empty text takes that back.

        Raises:
            PreconditionFailedError: somebody changed it at the same moment.
        """
        return changes.annotate(
            self.connection, ref, metrics=metrics, tags=tags, description=description, deprecated=deprecated
        )

    def alias(self, ref: str, name: str, *, reason: str = "") -> AliasInfo:
        """Point an alias at the version that `ref` means now; the move is recorded with its reason.

        Raises:
            PreconditionFailedError: somebody moved it at the same moment.
        """
        return changes.move_alias(self.connection, ref, name, reason)

    def aliases(self, ref: str) -> Listing[AliasInfo]:
        """Return a model's aliases."""
        return listing.list_aliases(self.connection, ref)

    def alias_history(self, ref: str, name: str, *, limit: int | None = None) -> Listing[AliasMove]:
        """Return the moves of an alias: who, when, from, to, why."""
        return listing.list_alias_moves(self.connection, ref, name, limit=limit)

    def alias_at(self, ref: str, name: str, at: datetime) -> AliasInfo:
        """Return where an alias of a model pointed at a moment, whatever became of it since.

        Args:
            ref: the model.
            name: of the alias.
            at: the moment, in UTC where it says nothing else.

        Raises:
            AliasNotFoundError: it pointed nowhere then.
        """
        return listing.get_alias_at(self.connection, ref, name, at)

    def remove_alias(self, ref: str, name: str) -> None:
        """Remove an alias of a model; its history stays."""
        changes.remove_alias(self.connection, ref, name)

    def set_visibility(self, ref: str, visibility: Visibility) -> Model:
        """Let only the model's team read it (`team`), or everyone who has a token (`everyone`)."""
        return changes.set_visibility(self.connection, ref, visibility)

    def delete(self, ref: str, *, force: bool = False) -> Model | Version:
        """Delete a version, or the whole model when the reference names no version, and return it.

        `restore` takes it back, by its number.

        Args:
            ref: the version or model.
            force: delete a version also when others are based on it.

        Raises:
            VersionInUseError: an alias points at the version; or others are based on it, without `force`.
        """
        return changes.delete(self.connection, ref, force=force)

    def restore(self, ref: str) -> Model | Version:
        """Take back the deletion of a version (by its number) or of a model."""
        return changes.restore(self.connection, ref)

    def purge(self, ref: str, *, reason: str, now: bool = False) -> PurgeInfo:
        """Remove the content of a deleted version for good; its number stays taken and nothing takes this back.

        Args:
            ref: the version, by its number, or an alias of a live one.
            reason: why; it is recorded, and told to whoever asks for the version.
            now: purge it also when it is live, for weights that should never have been here; its aliases go.

        Returns:
            The bytes that were freed, those that other versions still hold, and the first of these versions.

        Raises:
            NotDeletedError: it is live and `now` is not given, or it was purged already.
        """
        return changes.purge(self.connection, ref, reason=reason, now=now)
