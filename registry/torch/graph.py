"""Where the weights are in the inert graph of a pickle: parts of checkpoints, names of pickled modules."""

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from torch import nn

from registry.errors import MalformedArtifactError, NoWeightsError
from registry.formats.inspection import Inspection, PathKey
from registry.formats.modules import is_module, module_children
from registry.formats.nodes import Call, Node
from registry.formats.values import as_items, as_pairs, function_name, state_pairs


def find_part(root: Node, inspection: Inspection, part: str) -> Node:
    """Return the node of one part of a checkpoint.

    Raises:
        NoWeightsError: the part holds no tensors.
    """
    for record in inspection.tensors:
        if record.part == part:
            return _follow(root, _part_path(record.path, part))
    raise NoWeightsError(f"The part {part!r} holds no tensors.")


def _part_path(path: tuple[PathKey, ...], part: str) -> tuple[PathKey, ...]:
    """Return the leading keys of a tensor's path that, joined by dots, are the part's name."""
    for length in range(1, len(path) + 1):
        if ".".join(str(key) for key in path[:length]) == part:
            return path[:length]
    raise MalformedArtifactError(f"The part {part!r} does not lead to its tensors.")


def _follow(node: Node, path: tuple[PathKey, ...]) -> Node:
    for key in path:
        members = [value for name, value in _members(node) if isinstance(name, str | int) and str(name) == str(key)]
        if not members:
            raise MalformedArtifactError(f"The file holds nothing at {'.'.join(map(str, path))!r}.")
        node = members[-1]
    return node


def _members(node: Node) -> Iterable[tuple[Node, Node]]:
    pairs = as_pairs(node)
    if pairs is None and isinstance(node, Call):
        pairs = state_pairs(node)
    return enumerate(as_items(node) or ()) if pairs is None else pairs


def find_module(node: Node) -> Call | None:
    """Return the node if it is a pickled `nn.Module`."""
    return node if isinstance(node, Call) and is_module(node) else None


def module_state(root: Call) -> dict[str, Node]:
    """Return what `state_dict()` of a pickled module would hold, by name and in its order.

    What a class computes in `get_extra_state` is not there: that would be running it.

    Raises:
        MalformedArtifactError: the module contains itself.
    """
    return {
        prefix + ".".join(map(str, child.keys)): child.node
        for prefix, module in _iter_modules(root)
        for child in module_children(module)
        if child.role in {"parameter", "buffer"}
    }


def module_versions(root: Call) -> OrderedDict[str, dict[str, int]]:
    """Return `_metadata` as `state_dict()` of a pickled module would write it, `{"norm": {"version": 2}}`.

    torch's own classes are asked for their versions; the others' are not known and count as 1, `nn.Module`'s.
    """
    return OrderedDict((prefix[:-1], {"version": _version(module)}) for prefix, module in _iter_modules(root))


def _version(module: Call) -> int:
    name = function_name(module) or ""
    home, _, own = name.rpartition(".")
    # Only what torch has imported already: a file decides neither what is imported nor what is run.
    found = getattr(sys.modules.get(home), own, None) if home.startswith("torch.") else None
    return int(getattr(found, "_version", 1)) if isinstance(found, type) and issubclass(found, nn.Module) else 1


def _iter_modules(root: Call) -> Iterator[tuple[str, Call]]:
    pending: list[tuple[str, Call, frozenset[int]]] = [("", root, frozenset())]
    while pending:
        prefix, module, above = pending.pop()
        if id(module) in above:
            raise MalformedArtifactError("The pickled module contains itself.")
        yield prefix, module
        below = [
            (f"{prefix}{'.'.join(map(str, child.keys))}.", child.node, above | {id(module)})
            for child in module_children(module)
            if child.role is None and isinstance(child.node, Call)
        ]
        pending.extend(reversed(below))
