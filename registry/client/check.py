"""Checking before loading: what a reference or file is made of, against a module or an architecture."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from registry.architecture import Architecture
from registry.client.connection import Connection
from registry.client.examine import inspect_file
from registry.client.glue import import_check
from registry.client.local import find_local, find_weights
from registry.client.pull import choose_weights
from registry.compat.compare import compare
from registry.compat.rename_map import Prefix, Rename, RenameMap
from registry.compat.report import CompatibilityReport
from registry.digest import blake3_digest
from registry.formats.inspection import Inspection
from registry.formats.source import FileSource
from registry.manifest import is_contiguous
from registry.module_info import Builder
from registry.state_dict import choose_part


@dataclass(frozen=True, slots=True)
class CheckWishes:
    """What a caller says about the comparison; see `Client.check`."""

    part: str | None = None
    prefix: Prefix = "auto"
    rename: Rename | None = None
    classifier: Sequence[str] = ()
    first_conv: Sequence[str] = ()


@dataclass(slots=True)
class Weights:
    """The architecture of a state_dict, and where it came from.

    Attributes:
        name: the reference or path, as it can be written again.
        builder: what the version says makes its module.
        files: the local files with their inspections; empty for a version.
        notices: what was chosen without being asked.
    """

    name: str
    architecture: Architecture
    builder: Builder | None = None
    files: list[tuple[Path, Inspection]] = field(default_factory=list[tuple[Path, Inspection]])
    notices: list[str] = field(default_factory=list[str])


def find_architecture(connection: Connection, ref: str | os.PathLike[str], part: str | None = None) -> Weights:
    """Return the architecture of a version, by its manifests, or of local files; nothing else is fetched.

    Raises:
        NoWeightsError, AmbiguousWeightsError: there is no state_dict, or several.
        WeighbridgeError: the reference cannot be resolved, or a file not be read.
    """
    local = find_local(ref)
    if local is not None:
        files = [(path, inspect_file(path)) for path in find_weights(local)]
        shards = [Architecture.from_inspection(each, part) for _, each in files]
        return Weights(str(ref), Architecture.join(shards), files=files, notices=_notices(files[0][1], part))
    reference = connection.resolver.reference(str(ref))
    version = connection.resolver.version(reference)
    artifacts = choose_weights(version, reference.path)
    manifests = [connection.resolver.manifest(version, each.path).manifest for each in artifacts]
    architecture = Architecture.join([Architecture.from_manifest(each, part) for each in manifests])
    return Weights(version.reference, architecture, builder=version.builder)


def check(
    connection: Connection, ref: str | os.PathLike[str], target: object, wishes: CheckWishes
) -> CompatibilityReport:
    """Return what loading a reference or local file into a module or an architecture would do.

    Raises:
        WeighbridgeError: see `Client.check`.
    """
    return compare_weights(find_architecture(connection, ref, wishes.part), target, wishes)


def compare_weights(source: Weights, target: object, wishes: CheckWishes) -> CompatibilityReport:
    """Return what loading `source` into a module or an architecture would do.

    Raises:
        AmbiguousPrefixError, InvalidRequestError: see `compare`.
    """
    report = _compare(source.architecture, target, wishes)
    if report.conflicts and source.files:
        # Only tied tensors need their values looked at; equal ones are no conflict.
        names = {name for each in report.conflicts for name in each.source_names}
        known = _with_digests(source, names, wishes.part)
        report = _compare(known, target, wishes, report.renames)
    report.source = source.name
    report.notices.extend(source.notices)
    return report


def _compare(
    source: Architecture, target: object, wishes: CheckWishes, renames: RenameMap | None = None
) -> CompatibilityReport:
    wanted: dict[str, Any] = {
        "prefix": wishes.prefix if renames is None else "",
        "rename": wishes.rename if renames is None else renames.names,
        "classifier": wishes.classifier,
        "first_conv": wishes.first_conv,
    }
    if isinstance(target, Architecture):
        report = compare(source, target, **wanted)
    else:
        report = cast("CompatibilityReport", import_check().check_module(source, target, **wanted))
    report.renames = renames or report.renames
    return report


def _with_digests(source: Weights, names: Collection[str], part: str | None) -> Architecture:
    """Return the architecture with the digests of some of its tensors, read from the local files."""
    digests: dict[str, str] = {}
    for path, inspection in source.files:
        chosen = choose_part(inspection, part)
        with FileSource(path) as bytes_of:
            for each in inspection.tensors:
                name = each.name if chosen is None else each.name.removeprefix(f"{chosen}.")
                if each.part == chosen and name in names and each.file_offset is not None and is_contiguous(each):
                    (data,) = bytes_of.read_many([(each.file_offset, each.nbytes)])
                    digests[name] = blake3_digest(data)
    architecture = source.architecture
    return Architecture(
        (replace(spec, digest=digests.get(name)) for name, spec in architecture.tensors.items()),
        entries=architecture.entries,
        metadata=architecture.metadata,
    )


def _notices(inspection: Inspection, part: str | None) -> list[str]:
    if part is not None or inspection.kind != "checkpoint":
        return []
    chosen = cast("str", choose_part(inspection, None))
    others = [each for each in inspection.parts if each != chosen]
    beside = f"; others are {', '.join(others)}" if others else ""
    return [f"Compared: the part {chosen!r} of a checkpoint{beside}."]
