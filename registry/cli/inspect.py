"""`weighbridge inspect`: what is in a weight file, without a server and without running it."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from registry.cli.output import print_document
from registry.errors import (
    MalformedArtifactError,
    NotFoundError,
    NoWeightsError,
    UnsafeArtifactError,
    WeighbridgeError,
)
from registry.formats.inspection import Inspection, TensorRecord, Trust
from registry.formats.mentions import marked
from registry.formats.reader import read
from registry.formats.sharded import check_index, parse_index
from registry.formats.source import FileSource
from registry.formats.wire import inspection_to_json
from registry.weights import has_weights_name, is_index_name

UNSAFE_EXIT_CODE = 6
_TRUST: tuple[Trust, ...] = ("tensors", "code", "unsafe")
_HASH_BYTES = 1 << 20


@dataclass(slots=True)
class Inspected:
    """One file, or the files of one sharded state_dict.

    Attributes:
        path: as given; of a sharded state_dict, its index.
        files: what was read.
        inspections: one a file.
    """

    path: Path
    files: list[Path]
    inspections: list[Inspection]

    @property
    def tensors(self) -> list[TensorRecord]:
        """The tensors of all files, in order."""
        return [tensor for each in self.inspections for tensor in each.tensors]

    @property
    def trust(self) -> Trust:
        """The worst trust of the files."""
        return _TRUST[max(_TRUST.index(each.trust) for each in self.inspections)]

    def all_of(self, name: Literal["reasons", "globals", "foreign_globals"]) -> list[str]:
        """Return what the files say under `name`, once each, in order."""
        return list(dict.fromkeys(text for each in self.inspections for text in getattr(each, name)))

    @property
    def size(self) -> int:
        """The sum of the files' sizes, in bytes."""
        return sum(each.size for each in self.inspections)


@click.command()
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables; several files give a list.")
@click.option("--source", "source_only", is_flag=True, help="Print the source of classes that old torch files carry.")
def inspect(*, paths: tuple[Path, ...], as_json: bool, source_only: bool) -> None:
    """Show what is in weight files: tensors, kind, trust, foreign code.

    FILE may be a folder, or the index of a sharded model. Nothing in a file is run. Exit code 6 means that a file
    would do harm, or cannot be read; of several files, the others are shown all the same.
    """
    from registry.cli.report import print_report
    from registry.cli.trust import print_problem, print_sources

    candidates = [candidate for path in paths for candidate in find_candidates(path)]
    if len(candidates) == 1:
        found: list[Inspected | WeighbridgeError] = [examine(candidates[0])]
    else:
        # One that cannot be read is no reason to be silent about the others.
        found = [_examine_or_explain(each) for each in candidates]
    if as_json:
        print_document(_documents(candidates, found))
    else:
        for each in found:
            if not isinstance(each, Inspected):
                click.echo(f"{click.style('error:', fg='red', bold=True)} {each.detail}", err=True)
                print_problem(each.extra)
            elif source_only:
                print_sources(
                    str(each.path), {name: text for one in each.inspections for name, text in one.sources.items()}
                )
            else:
                print_report(each)
    if any(isinstance(each, WeighbridgeError) or each.trust == "unsafe" for each in found):
        click.get_current_context().exit(UNSAFE_EXIT_CODE)


def find_candidates(path: Path) -> list[Path]:
    """Return what is to be examined: a file, an index, or the indexes and weight files of a folder.

    Raises:
        NotFoundError: nothing is there.
        NoWeightsError: a folder without weight files.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFoundError(f"There is no file or folder {str(path)!r}.")
    files = sorted(each for each in path.iterdir() if each.is_file())
    indexes = [each for each in files if is_index_name(each.name)]
    sharded = {each.with_name(name) for each in indexes for name in _shard_names(each)}
    singles = [each for each in files if has_weights_name(each.name) and each not in sharded]
    if not indexes and not singles:
        raise NoWeightsError(f"{str(path)!r} holds no weight file (.pt, .pth, .bin, .ckpt, .safetensors).")
    return indexes + singles


def _shard_names(index: Path) -> Sequence[str]:
    """Return the shards that an index names; those of a broken one are files like any other."""
    try:
        return list(parse_index(index.read_bytes()).shards)
    except WeighbridgeError:
        return []


def examine(path: Path) -> Inspected:
    """Return what a file or an index holds; an index and its shards count as one.

    Raises:
        NotFoundError: it cannot be read from the disk.
        MalformedArtifactError, UnsafeArtifactError: it cannot be read strictly.
    """
    return _examine_index(path) if is_index_name(path.name) else Inspected(path, [path], [_examine_file(path)])


def _examine_or_explain(path: Path) -> Inspected | WeighbridgeError:
    try:
        return examine(path)
    except WeighbridgeError as error:
        return error


def _documents(paths: Sequence[Path], found: Sequence[Inspected | WeighbridgeError]) -> Any:
    """Return the document of one file, or of several a list that says which is which and why one is missing."""
    if len(found) == 1 and isinstance(found[0], Inspected):
        return to_json(found[0])
    return [
        {"path": str(path)} | (to_json(each) if isinstance(each, Inspected) else _problem(each))
        for path, each in zip(paths, found, strict=True)
    ]


def _problem(error: WeighbridgeError) -> dict[str, Any]:
    return {"code": error.code, "detail": error.detail, **error.extra}


def _examine_file(path: Path) -> Inspection:
    try:
        with FileSource(path) as source:
            return read(source).inspection
    except (MalformedArtifactError, UnsafeArtifactError) as error:
        raise type(error)(f"{path.name}: {error.detail}", **error.extra) from error
    except OSError as error:
        raise NotFoundError(f"{str(path)!r} cannot be read: {error.strerror}.") from error


def _examine_index(path: Path) -> Inspected:
    index = parse_index(path.read_bytes())
    shards = {name: path.with_name(name) for name in index.shards if path.with_name(name).is_file()}
    inspections = {name: _examine_file(shard) for name, shard in shards.items()}
    check_index(index, inspections)
    return Inspected(path, list(shards.values()), list(inspections.values()))


def to_json(inspected: Inspected) -> dict[str, Any]:
    """Return the documented JSON of one file; a sharded state_dict has `files` and no `sha256` of its own."""
    documents = [inspection_to_json(each) for each in inspected.inspections]
    foreign = sorted(_joined(documents, "foreign_globals"))
    digests = [_sha256(file) for file in inspected.files]
    first, single = documents[0], inspected.files == [inspected.path]
    document = {
        "format": first["format"],
        "kind": first["kind"],
        "trust": inspected.trust,
        "reasons": _joined(documents, "reasons"),
        "globals": sorted(_joined(documents, "globals")),
        "sha256": digests[0] if single else None,
        "size": inspected.size,
        "scalars": first["scalars"],
        "entries": [entry for each in documents for entry in each["entries"]],
        "tensors": [tensor for each in documents for tensor in each["tensors"]],
    }
    document |= {"foreign_globals": foreign, "marked_globals": marked(foreign)}
    if single:
        return document | {name: value for name, value in first.items() if name not in document}
    document["files"] = [
        {"name": file.name, "sha256": digest, "size": each["size"]}
        for file, digest, each in zip(inspected.files, digests, documents, strict=True)
    ]
    return document


def count_elements(tensors: Iterable[TensorRecord]) -> int:
    """Return the number of elements, those of tied tensors once."""
    return sum(element_count(tensor) for tensor in untied(tensors).values())


def untied(tensors: Iterable[TensorRecord]) -> dict[int, TensorRecord]:
    """Return the tensors that are not the same view of the same storage as one before, by identity."""
    seen: dict[Any, TensorRecord] = {}
    for tensor in tensors:
        view = (tensor.storage_key, tensor.file_offset, tensor.dtype, tensor.shape, tensor.stride)
        seen.setdefault(id(tensor) if tensor.storage_key is None else view, tensor)
    return {id(tensor): tensor for tensor in seen.values()}


def element_count(tensor: TensorRecord) -> int:
    """Return the number of elements of a tensor."""
    product = 1
    for size in tensor.shape:
        product *= size
    return product


def _joined(documents: Sequence[dict[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(each for document in documents for each in document[name]))


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_HASH_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()
