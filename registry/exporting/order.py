"""In which order versions are imported: what others are based on first, each model's in the order of its numbers."""

from collections.abc import Iterable
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

from registry.errors import InvalidRequestError, MalformedArtifactError
from registry.names import Reference

Node: TypeAlias = tuple[str, int]
"""A model's name and the number of a version."""


class ImportOrder:
    """Collects versions and what they are based on."""

    def __init__(self, team: str) -> None:
        self._team = team
        self._sorter: TopologicalSorter[Node] = TopologicalSorter()
        self._there: set[Node] = set()

    def add(self, model: str, numbers: Iterable[int]) -> None:
        """Take the versions of a model, which come one after the other."""
        before: Node | None = None
        for number in sorted(numbers):
            node = (model, number)
            self._there.add(node)
            self._sorter.add(node, *([before] if before else []))
            before = node

    def add_base(self, node: Node, base: str | None) -> None:
        """Take what a version is based on; all versions are known by then."""
        found = self.find(base)
        if found is not None:
            self._sorter.add(node, found)

    def find(self, reference: str | None) -> Node | None:
        """Return the version of the export that a reference names by its number, None when it names none."""
        with suppress(InvalidRequestError):
            parsed = Reference.parse(reference or "")
            if parsed.team == self._team and parsed.version is not None and parsed.path is None:
                node = (parsed.model, parsed.version)
                return node if node in self._there else None
        return None

    def nodes(self) -> list[Node]:
        """Return all versions in their order.

        Raises:
            MalformedArtifactError: versions are based on each other, which no registry has.
        """
        try:
            return list(self._sorter.static_order())
        except CycleError as error:
            raise MalformedArtifactError(
                "The export says that versions are based on each other in a circle."
            ) from error
