"""Where in a file's object graph a value was met, and how that is put into words."""

from typing import Literal, NamedTuple, TypeAlias

from registry.errors import MalformedArtifactError
from registry.formats.display import quote_name
from registry.formats.inspection import PathKey, Role
from registry.formats.nodes import ListNode, Node, SetNode
from registry.formats.values import as_items, as_pairs, type_name

Path: TypeAlias = tuple[PathKey, ...]
Listing: TypeAlias = Literal["entries", "scalars", "nothing"]


class Place(NamedTuple):
    """Where a node was met.

    Attributes:
        path: the container keys that lead to it.
        part: the state_dict around it.
        role: what tensors here are.
        listing: what values that are no tensors become here.
    """

    path: Path = ()
    part: str | None = None
    role: Role = "unknown"
    listing: Listing = "scalars"

    def at(self, key: PathKey) -> "Place":
        """Return the place of a member."""
        return Place((*self.path, key), self.part, self.role, self.listing)

    @property
    def name(self) -> str:
        """The keys joined by dots."""
        return ".".join(map(str, self.path))


def path_key(key: Node) -> PathKey:
    """Return a dict's key as a path names it: strings and integers as they are, others in words.

    Raises:
        MalformedArtifactError: no dict can have that key.
    """
    if isinstance(key, str) or (isinstance(key, int) and not isinstance(key, bool)):
        return key
    if key is None or isinstance(key, bool | float | bytes):
        return str(key)
    if isinstance(key, ListNode | SetNode) or as_pairs(key) is not None:
        raise MalformedArtifactError(
            f"The file has a dict with a key of type {quote_name(type_name(key))}, which no dict can have."
        )
    items = as_items(key) or ()
    plain = items and all(isinstance(item, str | int | float) for item in items)
    return f"({', '.join(map(repr, items))})" if plain else f"<{type_name(key)}>"
