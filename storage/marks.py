"""Marks of what architectures have in common: 64 bits for a tensor's name and shape, or for a whole submodule."""

import hashlib
from math import prod
from typing import NamedTuple, TypeAlias, cast

from registry.architecture import Architecture
from registry.compat.leftovers import COUNTER
from registry.compat.places import MIN_TENSORS, Feature
from registry.tensor_names import WRAPPER_PARTS
from registry.tensor_spec import TensorSpec

_Module: TypeAlias = "dict[str, TensorSpec | _Module]"
"""Tensors by their last names, and modules by theirs with a dot."""
_Content: TypeAlias = tuple[tuple[str, "tuple[int, ...] | int"], ...]
"""Names below a module, with the shapes of tensors and the marks of modules."""


class MarkedModule(NamedTuple):
    """A module, without what torch's wrappers insert and without the counters of BatchNorm, which old files lack.

    Attributes:
        mark: modules of one mark have equal names below them, and equal shapes.
        tensors: how many it has.
        elements: of those tensors that are not known to be buffers.
        submodules: right below it.
    """

    mark: int
    tensors: int
    elements: int
    submodules: "tuple[MarkedModule, ...]"


def feature_mark(feature: Feature) -> int:
    """Return the mark of a feature."""
    return _mark("f", *feature)


def leaf_mark(feature: Feature) -> int:
    """Return the mark of a feature that is a last name alone."""
    return _mark("l", *feature)


def mark_modules(architecture: Architecture) -> MarkedModule:
    """Return the whole of an architecture with its submodules; equal ones are one object."""
    root: _Module = {}
    for name, spec in architecture.tensors.items():
        *modules, leaf = _bare(name).split(".")
        if leaf != COUNTER:
            node = root
            for module in modules:
                node = cast("_Module", node.setdefault(f"{module}.", {}))
            node[leaf] = spec
    return _mark_module(root, {})


def submodule_marks(root: MarkedModule) -> dict[int, int]:
    """Return the marks of the distinct modules of `MIN_TENSORS` and more, the largest first, with their tensors."""
    counts: dict[int, int] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if each.tensors >= MIN_TENSORS and each.mark not in counts:
            counts[each.mark] = each.tensors
            waiting.extend(each.submodules)
    return {mark: counts[mark] for mark in sorted(counts, key=lambda mark: (-counts[mark], mark))}


def _mark_module(node: _Module, known: dict[_Content, MarkedModule]) -> MarkedModule:
    """Return a module; those of equal content are looked at once."""
    specs: list[TensorSpec] = []
    modules: list[MarkedModule] = []
    content: list[tuple[str, tuple[int, ...] | int]] = []
    for name, value in sorted(node.items()):
        if isinstance(value, TensorSpec):
            specs.append(value)
            content.append((name, value.shape))
        else:
            modules.append(_mark_module(value, known))
            content.append((name, modules[-1].mark))
    key = tuple(content)
    found = known.get(key)
    if found is None:
        found = known[key] = MarkedModule(
            _mark("m", key),
            len(specs) + sum(each.tensors for each in modules),
            sum(prod(spec.shape) for spec in specs if spec.role != "buffer") + sum(each.elements for each in modules),
            tuple(modules),
        )
    return found


def _bare(name: str) -> str:
    parts = name.split(".")
    if WRAPPER_PARTS.isdisjoint(parts[:-1]):
        return name
    return ".".join([*(part for part in parts[:-1] if part not in WRAPPER_PARTS), parts[-1]])


def _mark(*what: object) -> int:
    """Return 64 bits of a digest as the databases' signed integer; equal marks by chance cost a comparison."""
    digest = hashlib.blake2b("\0".join(map(str, what)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
