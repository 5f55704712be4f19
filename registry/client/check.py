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
from registry.module_info import Builder, PretrainedConfig
from registry.schema import ArtifactInfo, VersionInfo
from registry.state_dict import choose_part


@dataclass(frozen=True, slots=True)
class CheckWishes:
    """What a caller says about the comparison; see `Client.check`."""

    part: str | None = None
    prefix: Prefix = "auto"
    rename: Rename | None = None
    classifier: Sequence[str] = ()
    first_conv: Sequence[str] = ()

    def arguments(self) -> dict[str, str]:
        """Return what was said, as Python writes it."""
        rename: Any = self.rename
        written = {
            "part": repr(self.part) if self.part is not None else "",
            "prefix": repr(self.prefix) if self.prefix != "auto" else "",
            "rename": getattr(rename, "__name__", "rename") if callable(rename) else repr(rename) if rename else "",
            "classifier": repr(list(self.classifier)) if self.classifier else "",
            "first_conv": repr(list(self.first_conv)) if self.first_conv else "",
        }
        return {name: "rename" if text == "<lambda>" else text for name, text in written.items() if text}


@dataclass(slots=True)
class Weights:
    """The architecture of a state_dict, and where it came from.

    Attributes:
        name: the reference or path, as it can be written again.
        builder: what the version says makes its module.
        described: what the version says of its module's head and first convolutions.
        files: the local files with their inspections; empty for a version.
        version: what was resolved, with the artifacts that hold the state_dict; None for local files.
        notices: what was chosen without being asked.
    """

    name: str
    architecture: Architecture
    builder: Builder | None = None
    described: PretrainedConfig | None = None
    version: VersionInfo | None = None
    artifacts: Sequence[ArtifactInfo] = ()
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
    return Weights(version.reference, architecture, version.builder, version.pretrained_cfg, version, artifacts)


def check(
    connection: Connection, ref: str | os.PathLike[str], target: object, wishes: CheckWishes
) -> CompatibilityReport:
    """Return what loading a reference or local file into a module or an architecture would do.

    Raises:
        WeighbridgeError: see `Client.check`.
    """
    return compare_weights(find_architecture(connection, ref, wishes.part), target, wishes)


def compare_weights(
    source: Weights, target: object, wishes: CheckWishes, builder: Builder | None = None
) -> CompatibilityReport:
    """Return what loading `source` into a module or an architecture would do.

    Args:
        source: what was saved, with what its version says of the module.
        target: what shall be filled.
        wishes: what the caller says; it wins over what the version says.
        builder: what made the target, where that is known; of a module it is guessed.

    Raises:
        AmbiguousPrefixError, InvalidRequestError: see `compare`.
    """
    known = _with_record(wishes, source)
    report = _compare(source.architecture, target, known)
    if report.conflicts and source.files:
        # Only tied tensors need their values looked at; equal ones are no conflict.
        names = {name for each in report.conflicts for name in each.source_names}
        report = _compare(_with_digests(source, names, wishes.part), target, known, report.renames)
    first_conv = _find_recorded_conv(report, source, wishes)
    if first_conv:
        report = _compare(source.architecture, target, replace(known, first_conv=first_conv), report.renames)
    report.source = source.name
    report.arguments = {**wishes.arguments(), **report.arguments}
    report.notices.extend(source.notices)
    report.notices.extend(_other_builder(source.builder, target, builder))
    return report


def _with_record(wishes: CheckWishes, source: Weights) -> CheckWishes:
    """Return the wishes with the head that the version records, where the caller named none."""
    recorded = source.described.classifier if source.described is not None else []
    there = [each for each in recorded if any(name.startswith(f"{each}.") for name in source.architecture.tensors)]
    return wishes if wishes.classifier or not there else replace(wishes, classifier=there)


def _find_recorded_conv(report: CompatibilityReport, source: Weights, wishes: CheckWishes) -> list[str]:
    """Return the target's first convolutions, where the version records the source's and one of them does not fit."""
    if wishes.first_conv or source.described is None or not source.described.first_conv:
        return []
    names = report.renames.names
    moved = {names.get(f"{each}.weight", "") for each in source.described.first_conv}
    if not any(each.name in moved and each.adapter != "adapt_first_conv" for each in report.mismatched):
        return []
    return [name.removesuffix(".weight") for name in moved if name]


def _other_builder(recorded: Builder | None, target: object, builder: Builder | None) -> list[str]:
    """Return a warning where both sides say what makes them, and it is not the same."""
    if recorded is None or isinstance(target, Architecture):
        made = [] if builder is None or recorded is None else [builder]
    else:
        made = [builder] if builder is not None else cast("list[Builder]", import_check().guess_builders(target))
    if recorded is None or not made or any(recorded.makes_same_network(each) for each in made):
        return []
    said = {str(each) for each in made}
    name = said.pop() if len(said) == 1 else f"a {type(target).__module__}.{type(target).__qualname__}"
    warning = (
        f"Warning: the weights were recorded as of {recorded}, and the target is {name}. Names and shapes can be equal "
        "where the computation is not."
    )
    return [warning]


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
        (spec._replace(digest=digests.get(name)) for name, spec in architecture.tensors.items()),
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
