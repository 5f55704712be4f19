"""Finding what would fill a module: the registry's versions that fit it, or a submodule of it."""

import os
from typing import Any, cast

from registry.architecture import Architecture
from registry.client.check import find_architecture
from registry.client.connected import Connected
from registry.client.connection import Connection
from registry.client.glue import import_architecture
from registry.client.results import Listing
from registry.formats.inspection import Kind
from registry.matches import CompatibleMatch, CompatibleMatches, CompatibleQuery

READ_TIMEOUT_SECONDS = 300.0
"""A network of thousands of tensors is compared with many."""


class Match(CompatibleMatch):
    """A `CompatibleMatch` that prints as a line."""

    def __str__(self) -> str:
        """Return how much fits where, and from which version."""
        newest = self.versions[0].reference if self.versions else self.architecture
        others = self.version_count - 1
        more = f" and {others:,} more version{'s' if others > 1 else ''}" if others > 0 else ""
        source = f" (its {self.source_prefix})" if self.source_prefix else ""
        needs = f"; needs {', '.join(self.needs)}" if self.needs else ""
        reasons = f"; in the way: {', '.join(self.reasons)}" if self.reasons else ""
        return (
            f"{percent(self.share):>6} {self.verdict:<9} into {self.into or 'the whole'}: "
            f"{newest}{source}{more}{needs}{reasons}"
        )


class Matches(Listing[Match]):
    """What fits, the best first; prints as a line a match."""

    def __str__(self) -> str:
        """Return the lines."""
        return "\n".join(map(str, self)) or "Nothing that you may read fits this module or a submodule of it."


class Discovering(Connected):
    """What the registry has for a module."""

    def compatible(
        self, target: object, *, team: str | None = None, kind: Kind | None = None, limit: int = 10
    ) -> Matches:
        """Return the versions that would load into a module or a submodule of it, the best first.

        `print` of the result says how much of the module each would initialise, and where it goes. Versions of one
        architecture are one match, with the newest of each model and a count.

        Args:
            target: an `nn.Module`, also on the meta device; an `Architecture`; a reference; or a local path.
            team: look at this team's models only.
            kind: look at versions of this kind only (`state_dict`, `checkpoint`).
            limit: matches at most, 100 or less.

        Raises:
            TooLargeError: the service compares no architecture of this size.
            UnsupportedValueError: a lazy module has no shapes yet.
        """
        architecture = architecture_of(self.connection, target)
        return find_compatible(self.connection, architecture, team=team, kind=kind, limit=limit)


def architecture_of(connection: Connection, target: object) -> Architecture:
    """Return what a module, a reference or a local path is made of.

    Raises:
        WeighbridgeError: the reference cannot be resolved, or a file not be read.
    """
    if isinstance(target, Architecture):
        return target
    if isinstance(target, str | os.PathLike):
        return find_architecture(connection, os.fspath(cast("str | os.PathLike[str]", target))).architecture
    found: Architecture = import_architecture().architecture_of(target)
    return found


def find_compatible(
    connection: Connection, architecture: Architecture, *, team: str | None, kind: Kind | None, limit: int
) -> Matches:
    """Ask the service what would load into an architecture."""
    wanted: dict[str, Any] = {"team": team, "kind": kind, "limit": limit}
    query = CompatibleQuery(architecture=architecture.to_json(), **wanted)
    answer = connection.resolver.online().call(
        CompatibleMatches, "POST", "compatible", body=query, read_timeout_seconds=READ_TIMEOUT_SECONDS
    )
    return Matches(Match.model_validate(each.model_dump()) for each in answer.items)


def percent(fraction: float) -> str:
    """Return a fraction as a percentage."""
    # Nothing but all of it may read as 100 %.
    return "100 %" if fraction == 1 else f"{min(fraction * 100, 99.9):.1f} %"
