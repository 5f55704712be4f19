"""The aliases of an import: set once, after all versions; what somebody moved or removed here stays as it is."""

from collections.abc import Iterator, Mapping
from typing import Literal

from registry.client.changes import move_alias
from registry.client.connection import Connection
from registry.client.listing import list_alias_moves
from registry.errors import (
    AliasNotFoundError,
    InvalidMetadataError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    PublishInProgressError,
)
from registry.exporting.documents import ExportInfo, ModelDocument
from registry.exporting.outcomes import AliasOutcome
from registry.names import Reference, check_alias

_MAX_URL = 500


def set_aliases(
    connection: Connection,
    model: Reference,
    document: ModelDocument,
    numbers: Mapping[str, int | None],
    info: ExportInfo,
    *,
    dry_run: bool,
) -> Iterator[AliasOutcome]:
    """Set the aliases of one model and yield what became of each.

    Args:
        connection: the way to the service.
        model: of the service.
        document: of the model in the export.
        numbers: of the versions here that the aliases mean; None where there is none.
        info: of the export.
        dry_run: only say what would be done.

    Raises:
        InvalidNameError: the export has an alias that cannot be.
    """
    for alias in document.aliases:
        full, number = f"{model}@{check_alias(alias.name)}", numbers[alias.name]
        points_at = _find_last(connection, model, alias.name)
        if points_at != "never":
            yield AliasOutcome(full, number, "there" if points_at == number and number else "kept")
        elif number is None and not dry_run:
            yield AliasOutcome(full, None, "lost", f"version {alias.version} of the export is not here")
        elif dry_run:
            yield AliasOutcome(full, number, "set")
        else:
            reason = f"imported from {info.team}/{document.name}:{alias.version} of {info.service_url[:_MAX_URL]}"
            try:
                move_alias(connection, f"{model}:{number}", alias.name, reason)
            except (PermissionDeniedError, InvalidMetadataError, NotFoundError, PublishInProgressError) as error:
                yield AliasOutcome(full, number, "refused", error.detail, error)
            except PreconditionFailedError:
                yield AliasOutcome(full, number, "kept")
            else:
                yield AliasOutcome(full, number, "set")


def lose_aliases(model: Reference, document: ModelDocument, why: str) -> Iterator[AliasOutcome]:
    """Yield that no alias of a model is set, and why."""
    for alias in document.aliases:
        yield AliasOutcome(f"{model}@{check_alias(alias.name)}", None, "lost", why)


def _find_last(connection: Connection, model: Reference, name: str) -> int | Literal["never"] | None:
    """Return the version that an alias points at, None when it was removed, `never` when it never was."""
    try:
        moves = list_alias_moves(connection, str(model), name, limit=1)
    except (AliasNotFoundError, ModelNotFoundError):
        return "never"
    return moves[0].to_version if moves else "never"
