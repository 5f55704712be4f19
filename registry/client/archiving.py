"""The client's methods that take all of a team out of a service, and into another."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry.client.connected import Connected

if TYPE_CHECKING:
    from registry.exporting.outcomes import TeamImport
    from registry.exporting.team_export import TeamExport


class Archiving(Connected):
    """Teams as plain files and JSON."""

    def export_team(
        self,
        team: str,
        to: str | os.PathLike[str],
        *,
        models: str | Sequence[str] = (),
        say: Callable[[str], None] | None = None,
    ) -> "TeamExport":
        """Write the models of a team that you may read below the folder `to`: the very files, and JSON beside them.

        Called again with the same folder, it fetches only what is missing or damaged there.

        Args:
            team: whose models.
            to: a folder that is new or empty, or holds an earlier export of the team.
            models: globs of names, when not all models are wanted.
            say: is told of each model as it is done.

        Raises:
            TeamNotFoundError, ModelNotFoundError: there is nothing that you may read.
            InvalidRequestError: the folder holds something else.
            StorageFullError: the disk is full.
        """
        from registry.exporting.team_export import export_team

        globs = [models] if isinstance(models, str) else list(models)
        return export_team(self.connection, team, Path(to), models=globs, say=say)

    def import_team(
        self,
        folder: str | os.PathLike[str],
        *,
        team: str | None = None,
        dry_run: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> "TeamImport":
        """Push the versions of an exported folder that the service lacks. Called again, it goes on, or adds nothing.

        Args:
            folder: that `export_team` wrote.
            team: where to; by default the team of the same name.
            dry_run: verify everything, and only say what would be done.
            say: is told of each new version as it is done.

        Raises:
            InvalidRequestError: the folder is no finished export.
            MalformedArtifactError, DigestMismatchError, InvalidPathError: the folder is damaged or made up.
            PermissionDeniedError: you may not push to the team.

        What ends it later, a full team or a service that went away, is the `failure` of what it returns, beside what
        was done until then.
        """
        from registry.exporting.team_import import import_team

        return import_team(self.connection, Path(folder), team=team, dry_run=dry_run, say=say)
