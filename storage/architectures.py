"""What the index keeps of an architecture: a document that a comparison reads, and marks by which it is found."""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, repeat
from math import prod
from typing import Any, cast

from registry.architecture import Architecture
from registry.compat.leftovers import COUNTER
from registry.compat.places import count_features
from registry.digest import sha256_digest
from registry.errors import InvalidMetadataError, TooLargeError
from registry.formats.inspection import Inspection
from registry.state_dict import DEFAULT_PARTS
from registry.tensor_spec import TensorRole, TensorSpec
from storage.marks import feature_mark, leaf_mark, mark_modules, submodule_marks
from storage.metadata.records import NewArchitecture, NewArchitectureUse

MAX_TENSORS = 20_000
"""Architectures of more tensors are not in the index, and are taken by no route."""
MAX_DEPTH = 100
"""Nor are those with a name of more parts: modules nested so deep are none that anybody wrote."""
MAX_DIMENSIONS = 64
MAX_TREE_CHARACTERS = 20_000_000
"""Characters of the names of all modules, a module counted for each tensor below it: what making the tree costs."""
MAX_MARKS = 1_500
"""Of each kind, for one architecture: those that weigh most."""
MAX_USES = 64
"""State_dicts of one version that are in the index."""
_LEVEL = 6


def encode_architecture(architecture: Architecture) -> tuple[str, bytes]:
    """Return the digest of an architecture and its document, compressed.

    Equal documents make equal comparisons: names, shapes, dtypes, roles, ties, layouts in order, entries, and the
    versions in `_metadata`. Digests of values are no part of it.
    """
    tensors = architecture.tensors.values()
    document: dict[str, Any] = {"names": list(architecture.tensors)}
    for name, values in (
        ("shape", (spec.shape for spec in tensors)),
        ("kind", ((spec.dtype, spec.role, spec.layout, spec.quantised) for spec in tensors)),
    ):
        known: dict[Any, int] = {}
        document[name] = [known.setdefault(each, len(known)) for each in values]
        document[f"{name}s"] = list(known)
    firsts: dict[str, int] = {}
    ties = [(at, firsts.setdefault(spec.tie, at)) for at, spec in enumerate(tensors) if spec.tie is not None]
    document["ties"] = ties
    document["entries"] = list(architecture.entries)
    if architecture.metadata is not None:
        versions = {name: values.get("version") for name, values in architecture.metadata.items()}
        document["versions"] = {name: each for name, each in sorted(versions.items()) if isinstance(each, int)}
    data = json.dumps(document, separators=(",", ":")).encode()
    return sha256_digest(data), zlib.compress(data, _LEVEL)


def decode_document(compressed: bytes) -> dict[str, Any]:
    """Return the document that `encode_architecture` wrote: `names`, and for each its place in `shapes` as `shape`."""
    document: dict[str, Any] = json.loads(zlib.decompress(compressed))
    return document


def names_and_shapes(document: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Return the names of a document's tensors, and their shapes."""
    shapes = [tuple(each) for each in document["shapes"]]
    return tuple(document["names"]), tuple(map(shapes.__getitem__, document["shape"]))


def architecture_of_document(document: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a document describes."""
    names, shapes = names_and_shapes(document)
    kinds: list[tuple[str, TensorRole, str, bool]] = document["kinds"]
    # Column by column: a search makes ten thousand, and no step of this is one of Python for each.
    dtypes, roles, layouts, quantised = (
        map([each[at] for each in kinds].__getitem__, document["kind"]) for at in range(4)
    )
    nothing = repeat(None, len(names))
    columns = zip(names, shapes, dtypes, roles, nothing, layouts, quantised, repeat(None, len(names)), strict=True)
    specs: list[TensorSpec] = list(map(tuple[Any, ...].__new__, repeat(TensorSpec), columns))
    firsts: list[tuple[int, int]] = document["ties"]
    for at, first in firsts:
        specs[at] = specs[at]._replace(tie=names[first])
    versions = document.get("versions")
    return Architecture(
        specs,
        entries=document["entries"],
        metadata=None if versions is None else {name: {"version": each} for name, each in versions.items()},
    )


def find_uses(inspections: Mapping[str, Inspection], weights: Sequence[str]) -> list[NewArchitectureUse]:
    """Return the state_dicts of a version with their architectures: usually one.

    Args:
        inspections: of the artifacts by path.
        weights: the paths that make up the version's state_dict; empty when none is the obvious one, and then every
            artifact counts for itself.
    """
    groups = [(None, list(weights))] if weights else [(path, [path]) for path in inspections]
    found = (
        use
        for path, paths in groups
        for part in _parts([inspections[each] for each in paths])
        for use in _use([inspections[each] for each in paths], path, part)
    )
    return list(islice(found, MAX_USES))


def _parts(shards: Sequence[Inspection]) -> Sequence[str | None]:
    """Return None for the obvious part, or all of them where there is no such."""
    parts = shards[0].parts
    if shards[0].kind != "checkpoint" or len(parts) == 1 or not set(parts).isdisjoint(DEFAULT_PARTS):
        return [None]
    return [part for part in parts if "\0" not in part]


def _use(shards: Sequence[Inspection], path: str | None, part: str | None) -> Iterator[NewArchitectureUse]:
    if sum(len(each.tensors) for each in shards) <= MAX_TENSORS:
        architecture = Architecture.join([Architecture.from_inspection(each, part or _only(each)) for each in shards])
        if is_indexed(architecture):
            yield NewArchitectureUse(describe(architecture), path, part)


def _only(inspection: Inspection) -> str | None:
    """Return the only part of a checkpoint by its name: asked for without, a moving average warns its user."""
    return inspection.parts[0] if inspection.kind == "checkpoint" and len(inspection.parts) == 1 else None


def is_indexed(architecture: Architecture) -> bool:
    """Return whether an architecture is of a size that the index takes."""
    try:
        check_bounds(architecture)
    except (TooLargeError, InvalidMetadataError):
        return False
    return bool(architecture.tensors)


def read_architecture(document: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a request holds, checked before anything is made of it.

    Raises:
        TooLargeError: it has too many tensors.
        InvalidMetadataError: it is no architecture, or one that the service does not compare.
    """
    tensors, entries = document.get("tensors"), document.get("entries", [])
    if not isinstance(tensors, list) or not isinstance(entries, list):
        raise InvalidMetadataError("This is no architecture: `tensors` and `entries` are lists.")
    listed = cast("list[Any]", tensors)
    _check_count(max(len(listed), len(cast("list[Any]", entries))))
    for each in listed:
        _check_tensor(each)
    architecture = Architecture.from_json(document)
    check_bounds(architecture)
    return architecture


def _check_tensor(described: Any) -> None:
    try:
        name, shape, tie = described["name"], described["shape"], described.get("tie")
        name.encode()
        sound = isinstance(name, str) and isinstance(tie, str | None) and len(shape) <= MAX_DIMENSIONS
        sound = sound and prod(max(1, size) for size in shape) < 1 << 62
    except (AttributeError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        shown = ascii(described)[:100]
        raise InvalidMetadataError(f"This is no tensor: {shown}. It needs `name`, `shape` in elements and `dtype`.")


def _check_count(count: int) -> None:
    if count > MAX_TENSORS:
        raise TooLargeError(
            f"This architecture has {count:,} tensors and the service compares at most {MAX_TENSORS:,}. "
            "`weighbridge check` compares on your machine.",
            limit=MAX_TENSORS,
        )


def check_bounds(architecture: Architecture) -> None:
    """Return when an architecture is of a size whose comparison takes a bounded time.

    Raises:
        TooLargeError: it has too many tensors.
        InvalidMetadataError: modules are nested too deep, or names are too long.
    """
    _check_count(len(architecture.tensors))
    characters = 0
    for name in architecture.tensors:
        depth = name.count(".")
        if depth >= MAX_DEPTH:
            raise InvalidMetadataError(
                f"{name[:60]!r}… has {depth + 1:,} parts; the service compares names of at most {MAX_DEPTH}."
            )
        characters += len(name) * (depth + 1)
    if characters > MAX_TREE_CHARACTERS:
        raise InvalidMetadataError("The names of this architecture's modules are too long for the service to compare.")


def describe(architecture: Architecture) -> NewArchitecture:
    """Return what the index keeps of an architecture; the marks are made when they are asked for."""
    digest, document = encode_architecture(architecture)
    weight_count = sum(not name.endswith(COUNTER) for name in architecture.tensors)
    return NewArchitecture(digest, weight_count, document, partial(marks_of, architecture))


def marks_of(architecture: Architecture) -> dict[int, int]:
    """Return how often an architecture has each mark: of its tensors, and of its distinct submodules."""
    tensors = architecture.tensors.values()
    marks: dict[int, int] = {}
    for features, mark in zip(count_features(tensors), (feature_mark, leaf_mark), strict=True):
        heaviest = sorted(features, key=lambda each: -features[each] * prod(each[1]))
        marks |= {mark(each): features[each] for each in heaviest[:MAX_MARKS]}
    return marks | dict.fromkeys(islice(submodule_marks(mark_modules(architecture)), MAX_MARKS), 1)
