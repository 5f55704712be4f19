"""From a pickle's root to named tensors, parts, entries and scalars: what the file is a file of.

How things are named: a dict's keys, a list's positions and an object's attributes joined by dots; inside a
pickled module the names that its `state_dict()` would have. What the kinds and roles mean where the file
does not say it is in `docs/reading-weights.md`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from registry.errors import MalformedArtifactError
from registry.formats.facts import TensorFacts
from registry.formats.inspection import EntryRecord, Kind, Role, TensorRecord
from registry.formats.limits import Limits
from registry.formats.modules import is_module, module_children
from registry.formats.nodes import Call, Node, StorageRef
from registry.formats.places import Listing, Place, path_key
from registry.formats.values import (
    NO_VALUE,
    Pair,
    as_items,
    as_pairs,
    called_pair,
    function_name,
    json_value,
    plain_value,
    state_pairs,
    type_name,
)

BUFFER_NAMES = frozenset({"running_mean", "running_var", "num_batches_tracked"})
"""What modules of torch call buffers, whose role no file says."""
_DATA_OBJECTS = frozenset({"argparse.Namespace", "types.SimpleNamespace"})


@dataclass(frozen=True, slots=True)
class _Exit:
    """What is kept of a container while its members are visited: how much was listed before them, and how."""

    listed: int
    listing: Listing


_Children: TypeAlias = Iterator[tuple[Node, Place]]


@dataclass(slots=True)
class Tree:
    """What a file's object graph holds, in stored order; the attributes are those of `Inspection`."""

    kind: Kind = "checkpoint"
    tensors: list[TensorRecord] = field(default_factory=list[TensorRecord])
    entries: list[EntryRecord] = field(default_factory=list[EntryRecord])
    scalars: dict[str, Any] = field(default_factory=dict[str, Any])
    parts: list[str] = field(default_factory=list[str])
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])


def read_tree(root: Node, facts: Mapping[int, TensorFacts], limits: Limits) -> Tree:
    """Return what `root` holds.

    Args:
        root: the value that the pickle yields.
        facts: the tensors, by the identity of the call that makes them.
        limits: bounds on nesting, references and names.

    Raises:
        MalformedArtifactError: a limit is exceeded.
    """
    walk = _Walk(facts, limits)
    walk.run(root)
    return walk.tree


class _Walk:
    """One walk, depth first, with a stack of its own: what waits, and which nodes lead to the present one.

    A container below which nothing was listed is not walked again: that is how tuples of tuples of nothing,
    each twice in the next, would take forever.
    """

    def __init__(self, facts: Mapping[int, TensorFacts], limits: Limits) -> None:
        self._facts = facts
        self._limits = limits
        self._ancestors: set[int] = set()
        self._barren: set[tuple[int, Listing]] = set()
        self._references = 0
        self.tree = Tree()

    def run(self, root: Node) -> None:
        """Visit everything below `root`."""
        around: list[tuple[_Children, Node, _Exit]] = []
        children: _Children = iter([(root, Place())])
        while True:
            below = self._next_container(children)
            if below is not None:
                inner, node, place = below
                if len(place.path) > self._limits.nesting:
                    raise MalformedArtifactError(f"The file nests more than {self._limits.nesting} containers.")
                self._ancestors.add(id(node))
                around.append((children, node, _Exit(self._listed(), place.listing)))
                children = inner
            elif around:
                children, node, left = around.pop()
                self._ancestors.discard(id(node))
                if left.listed == self._listed():
                    self._barren.add((id(node), left.listing))
            else:
                return

    def _next_container(self, children: "_Children") -> "tuple[_Children, Node, Place] | None":
        """Visit children as far as the next one that has children itself; None when there is none."""
        for node, place in children:
            if id(node) in self._ancestors or (id(node), place.listing) in self._barren:
                continue
            self._count(1)
            found = self._visit(node, place)
            if found is not None:
                return found, node, place
        return None

    def _count(self, references: int) -> None:
        self._references += references
        if self._references > self._limits.references:
            raise MalformedArtifactError(f"The file refers to more than {self._limits.references} values.")

    def _listed(self) -> int:
        tree = self.tree
        return len(tree.tensors) + len(tree.entries) + len(tree.scalars) + len(tree.parts)

    def _visit(self, node: Node, place: Place) -> Iterator[tuple[Node, Place]] | None:
        """List what the node is; return its members with their places when it has any."""
        facts = self._facts.get(id(node)) if type(node) is Call else None
        if facts is not None:
            self._add_tensor(facts, place)
            return None
        if type(node) is Call and is_module(node):
            return self._visit_module(node, place)
        pairs = as_pairs(node)
        if pairs is not None:
            return self._visit_mapping(node, pairs, place)
        if type(node) is StorageRef or plain_value(node, self._limits) is not NO_VALUE:
            self._add_value(node, place)
            return None
        items = as_items(node)
        if items is not None:
            return self._visit_items(node, items, place)
        return self._visit_object(node, place) if type(node) is Call else None

    def _visit_module(self, node: Call, place: Place) -> Iterator[tuple[Node, Place]]:
        part = place.part
        if not place.path:
            self.tree.kind = "module"
        elif place.listing != "nothing" and part is None and place.role == "unknown":
            part = self._add_part(place.name)
        for child in module_children(node):
            role = place.role if place.role in {"attribute", "optimizer"} else child.role
            here = place
            for key in child.keys:
                here = here.at(key)
            yield child.node, Place(here.path, part, role or "unknown", "nothing")

    def _visit_mapping(self, node: Node, pairs: list[Pair], place: Place) -> Iterator[tuple[Node, Place]]:
        keys = {key for key, _ in pairs if isinstance(key, str)}
        inside = place
        if place.listing == "entries":
            self._add_entry(node, place)
            inside = place._replace(listing="nothing")
        elif {"state", "param_groups"} <= keys:
            inside = place._replace(role="optimizer")
        elif place.role == "unknown" and place.part is None and self._is_state_dict(node, pairs):
            inside = place._replace(listing="entries")
            if place.path:
                inside = inside._replace(part=self._add_part(place.name))
            else:
                self.tree.kind = "state_dict"
            self._add_metadata(node, place)
        elif place.listing == "scalars" and len(pairs) > self._limits.scalar_members:
            inside = place._replace(listing="nothing")
        silent = inside.listing == "nothing"
        for key, value in pairs:
            name = path_key(key)
            if not silent or not (value is None or isinstance(value, str | int | float | bytes)):
                yield value, inside.at(name)

    def _is_state_dict(self, node: Node, pairs: list[Pair]) -> bool:
        """Return whether a mapping is a state_dict: it says so, or most of its values are tensors, none nested."""
        if any(not isinstance(key, str) for key, _ in pairs):
            return False
        if _stored_metadata(node) is not None:
            return True
        tensors = 0
        for _, value in pairs:
            if type(value) is Call and id(value) in self._facts:
                tensors += 1
            elif self._holds_tensors(as_pairs(value) or []) or (type(value) is Call and is_module(value)):
                return False
        return bool(tensors) and 2 * tensors >= len(pairs)

    def _holds_tensors(self, pairs: list[Pair]) -> bool:
        return any(type(value) is Call and id(value) in self._facts for _, value in pairs)

    def _visit_items(
        self, node: Node, items: list[Node] | tuple[Node, ...], place: Place
    ) -> Iterator[tuple[Node, Place]] | None:
        if place.listing == "entries":
            self._add_entry(node, place)
            place = place._replace(listing="nothing")
        elif all(plain_value(item, self._limits) is not NO_VALUE for item in items):
            if place.listing == "scalars" and len(items) <= self._limits.scalar_items:
                self._add_scalar(place, [plain_value(item, self._limits) for item in items])
            return None
        return ((item, place.at(position)) for position, item in enumerate(items))

    def _visit_object(self, node: Call, place: Place) -> Iterator[tuple[Node, Place]]:
        if place.listing == "entries":
            self._add_entry(node, place)
        name = function_name(node)
        listing: Listing = place.listing if name in _DATA_OBJECTS and place.listing == "scalars" else "nothing"
        role: Role = "attribute" if place.role == "unknown" and name not in _DATA_OBJECTS else place.role
        silent = place._replace(role=role, listing="nothing")
        for position, argument in enumerate(node.arguments):
            yield argument, silent.at(position)
        attributes = state_pairs(node)
        inside = place._replace(role=role, listing=listing)
        for key, value in attributes:
            yield value, inside.at(path_key(key))
        if not attributes:
            for position, value in enumerate(as_items(node.state) or ()):
                yield value, silent.at(position)

    def _add_tensor(self, facts: TensorFacts, place: Place) -> None:
        role = place.role
        if role == "unknown" and facts.is_parameter:
            role = "parameter"
        elif role == "unknown" and place.path and str(place.path[-1]).rpartition(".")[2] in BUFFER_NAMES:
            role = "buffer"
        name = self._checked_name(place)
        self.tree.tensors.append(facts.record(name, place.path, place.part, role))

    def _add_value(self, node: Node, place: Place) -> None:
        if place.listing == "entries" or type(node) is StorageRef:
            self._add_entry(node, place)
        elif place.listing == "scalars":
            self._add_scalar(place, plain_value(node, self._limits))

    def _add_entry(self, node: Node, place: Place) -> None:
        if place.listing == "nothing":
            return
        value = json_value(node, self._limits)
        found = None if value is NO_VALUE else value
        self.tree.entries.append(EntryRecord(self._checked_name(place), place.path, place.part, type_name(node), found))

    def _add_scalar(self, place: Place, value: Any) -> None:
        self.tree.scalars[self._checked_name(place)] = value

    def _add_part(self, name: str) -> str:
        if name not in self.tree.parts:
            self.tree.parts.append(name)
        return name

    def _add_metadata(self, node: Node, place: Place) -> None:
        stored = _stored_metadata(node)
        pairs = as_pairs(stored) or []
        plain = {key: json_value(value, self._limits) for key, value in pairs if isinstance(key, str)}
        if stored is not None:
            self.tree.metadata[place.name] = {k: v for k, v in plain.items() if v is not NO_VALUE}

    def _checked_name(self, place: Place) -> str:
        self._count(len(place.path))
        name = place.name
        size = len(name) if name.isascii() else len(name.encode("utf-8", "surrogatepass"))
        if size > self._limits.name_bytes:
            raise MalformedArtifactError(f"A name of the file is longer than {self._limits.name_bytes} bytes.")
        if self._listed() > self._limits.names:
            raise MalformedArtifactError(f"The file names more than {self._limits.names} values.")
        return name


def _stored_metadata(node: Node) -> Node:
    """Return the `_metadata` that torch gives a state_dict by BUILD, None when there is none."""
    if called_pair(node) != ("collections", "OrderedDict"):
        return None
    return next((value for key, value in state_pairs(node) if isinstance(key, str) and key == "_metadata"), None)
