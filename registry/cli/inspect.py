"""`weighbridge inspect`: what is in a weight file, without a server and without running it."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from registry.cli.options import as_json_option
from registry.cli.tables import clean, print_facts, print_table
from registry.client.notebook import format_size
from registry.errors import NotFoundError, NoWeightsError
from registry.formats.inspection import Inspection, TensorRecord
from registry.formats.reader import read
from registry.formats.sharded import check_index, parse_index
from registry.formats.source import FileSource
from registry.formats.wire import inspection_to_json
from registry.weights import has_weights_name, is_index_name

UNSAFE_EXIT_CODE = 6
_SHOWN_SCALARS = 40
_SHOWN_GLOBALS = 30
_HASH_BYTES = 1 << 20


@dataclass(slots=True)
class Inspected:
    """One state_dict or file: its path as given, the files that make it up, and their inspections."""

    path: Path
    files: list[Path]
    inspections: list[Inspection]

    @property
    def tensors(self) -> list[TensorRecord]:
        """The tensors of all files, in order."""
        return [tensor for each in self.inspections for tensor in each.tensors]


@click.command()
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@as_json_option
def inspect(*, paths: tuple[Path, ...], as_json: bool) -> None:
    """Show what is in weight files: tensors, kind, trust, foreign code.

    FILE may be a folder, or the index of a sharded model. Nothing in a file is run. Exit code 6 means that a file
    would do harm, or cannot be read.
    """
    found = [each for path in paths for each in examine(path)]
    if as_json:
        documents = [to_json(each) for each in found]
        click.echo(json.dumps(documents[0] if len(documents) == 1 else documents, ensure_ascii=True))
    else:
        for number, each in enumerate(found):
            if number:
                click.echo()
            _print(each)
    if any(inspection.trust == "unsafe" for each in found for inspection in each.inspections):
        click.get_current_context().exit(UNSAFE_EXIT_CODE)


def examine(path: Path) -> list[Inspected]:
    """Return what a file, an index or a folder holds; an index and its shards count as one.

    Raises:
        NotFoundError: nothing is there.
        NoWeightsError: a folder without weight files.
        MalformedArtifactError, UnsafeArtifactError: a file that cannot be read.
    """
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file())
        indexes = [each for each in files if is_index_name(each.name)]
        groups = [_examine_index(each) for each in indexes]
        sharded = {file for group in groups for file in group.files}
        singles = [each for each in files if has_weights_name(each.name) and each not in sharded]
        if not groups and not singles:
            raise NoWeightsError(f"{str(path)!r} holds no weight file (.pt, .pth, .bin, .ckpt, .safetensors).")
        return groups + [_examine_file(each) for each in singles]
    if not path.is_file():
        raise NotFoundError(f"There is no file or folder {str(path)!r}.")
    return [_examine_index(path) if is_index_name(path.name) else _examine_file(path)]


def _examine_file(path: Path) -> Inspected:
    with FileSource(path) as source:
        return Inspected(path, [path], [read(source).inspection])


def _examine_index(path: Path) -> Inspected:
    index = parse_index(path.read_bytes())
    shards = {name: path.with_name(name) for name in index.shards if path.with_name(name).is_file()}
    inspections = {name: _examine_file(shard).inspections[0] for name, shard in shards.items()}
    check_index(index, inspections)
    return Inspected(path, list(shards.values()), list(inspections.values()))


def to_json(inspected: Inspected) -> dict[str, Any]:
    """Return the documented JSON of one file, or of a sharded state_dict with its `files`."""
    documents = [inspection_to_json(each) for each in inspected.inspections]
    digests = [_sha256(file) for file in inspected.files]
    single = len(documents) == 1
    first = documents[0]
    ordered = {
        "format": first["format"],
        "kind": first["kind"],
        "trust": worst_trust(inspected.inspections),
        "reasons": _joined(documents, "reasons"),
        "globals": sorted(_joined(documents, "globals")),
        "sha256": digests[0] if single else None,
        "size": sum(document["size"] for document in documents),
        "scalars": first["scalars"],
        "entries": [entry for document in documents for entry in document["entries"]],
        "tensors": [tensor for document in documents for tensor in document["tensors"]],
    }
    rest = {name: value for name, value in first.items() if name not in ordered}
    if not single:
        rest = {
            "files": [
                {"name": file.name, "sha256": digest, "size": document["size"]}
                for file, digest, document in zip(inspected.files, digests, documents, strict=True)
            ]
        }
    return ordered | rest


def worst_trust(inspections: Iterable[Inspection]) -> str:
    """Return the worst trust among inspections."""
    return max((each.trust for each in inspections), key=("tensors", "code", "unsafe").index)


def _joined(documents: Sequence[dict[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(each for document in documents for each in document[name]))


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_HASH_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()


def _print(inspected: Inspected) -> None:
    first = inspected.inspections[0]
    tensors = inspected.tensors
    stored = sum(storage.nbytes for each in inspected.inspections for storage in each.storages)
    trust = worst_trust(inspected.inspections)
    colours = {"tensors": "green", "code": "yellow", "unsafe": "red"}
    facts = {
        "file": str(inspected.path),
        "shards": str(len(inspected.files)) if len(inspected.files) > 1 else "",
        "format": first.format,
        "kind": first.kind,
        "parts": ", ".join(first.parts),
        "size": format_size(sum(each.size for each in inspected.inspections)),
        "tensors": f"{len(tensors):,} with {_count_elements(tensors):,} elements in {format_size(stored)}",
    }
    print_facts(facts)
    click.echo(f"{click.style('trust       ', bold=True)} {click.style(trust, fg=colours[trust], bold=True)}")
    for each in inspected.inspections:
        for reason in each.reasons:
            click.echo(f"             {clean(reason)}")
        _print_names("foreign code", each.foreign_globals)
        _print_names("other records", each.unknown_records)
    scalars = {name: repr(value) for name, value in list(first.scalars.items())[:_SHOWN_SCALARS]}
    if scalars:
        click.echo()
        print_table(("SCALAR", "VALUE"), [(name, value[:120]) for name, value in scalars.items()])
    if tensors:
        click.echo()
        rows = _rows(tensors)
        print_table(
            ("MODULE / TENSOR", "SHAPE", "DTYPE", "ELEMENTS", "BYTES", "SHARE"),
            rows,
            right=("ELEMENTS", "BYTES", "SHARE"),
        )


def _print_names(title: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _SHOWN_GLOBALS} more" if len(names) > _SHOWN_GLOBALS else ""
        click.echo(f"{click.style(f'{title:<12}', bold=True)} {clean(', '.join(names[:_SHOWN_GLOBALS]))}{more}")


def _rows(tensors: Sequence[TensorRecord]) -> list[tuple[str, ...]]:
    """Return a line a module with its sum, followed by a line a tensor; what is stored once counts once."""
    modules: dict[str, list[TensorRecord]] = {}
    for tensor in tensors:
        modules.setdefault(tensor.name.rpartition(".")[0], []).append(tensor)
    counted = _first_of_each_view(tensors)
    total = sum(tensor.nbytes for tensor in tensors if id(tensor) in counted) or 1
    rows: list[tuple[str, ...]] = []
    for module, members in modules.items():
        own = [each for each in members if id(each) in counted]
        nbytes = sum(each.nbytes for each in own)
        if module:
            elements = f"{_count_elements(own):,}"
            rows.append((module, "", "", elements, format_size(nbytes), f"{nbytes / total:.1%}"))
        for each in members:
            name = each.name[len(module) + 1 :] if module else each.name
            elements = f"{_numel(each):,}"
            size = format_size(each.nbytes) if id(each) in counted else "shared"
            rows.append((f"· {name}", "x".join(map(str, each.shape)) or "scalar", each.dtype, elements, size, ""))
    return rows


def _first_of_each_view(tensors: Sequence[TensorRecord]) -> set[int]:
    """Return the identities of the tensors that are not the same view of the same storage as one before."""
    seen: dict[Any, int] = {}
    for tensor in tensors:
        view = (tensor.storage_key, tensor.file_offset, tensor.shape, tensor.stride)
        seen.setdefault(id(tensor) if tensor.storage_key is None else view, id(tensor))
    return set(seen.values())


def _count_elements(tensors: Iterable[TensorRecord]) -> int:
    listed = list(tensors)
    counted = _first_of_each_view(listed)
    return sum(_numel(tensor) for tensor in listed if id(tensor) in counted)


def _numel(tensor: TensorRecord) -> int:
    product = 1
    for size in tensor.shape:
        product *= size
    return product
