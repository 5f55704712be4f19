"""One safetensors file out of a state_dict's files, whatever their format: byte ranges are copied."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from registry.client.examine import inspect_file
from registry.client.glue import import_load, import_safetensors_writer
from registry.client.pull import writing_to
from registry.errors import ConfigurationError, NoWeightsError, UnsupportedValueError
from registry.formats.inspection import Inspection, TensorRecord
from registry.formats.safetensors import WritePlan, plan
from registry.formats.source import FileSource
from registry.manifest import is_contiguous
from registry.state_dict import METADATA_KEY, choose_part, select_names

PIECE_BYTES = 1 << 20
_LEFT_OUT_ROLES = frozenset({"optimizer", "non_persistent_buffer", "attribute"})


@dataclass(frozen=True, slots=True)
class Exported:
    """How many tensors were written, and sentences about what was not."""

    tensor_count: int
    notices: list[str]


@dataclass(frozen=True, slots=True)
class _Item:
    name: str
    file: Path
    tensor: TensorRecord
    swapped: bool


def export_safetensors(
    files: Sequence[Path],
    output: Path,
    *,
    part: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
) -> Exported:
    """Write the state_dict that the files make up as one safetensors file, which appears when it is complete.

    Args:
        files: one weight file, or the shards of one state_dict.
        output: the file to write or replace.
        part: the state_dict inside a checkpoint.
        include: glob patterns of names to take.
        exclude: glob patterns of names to leave out.

    Raises:
        NoWeightsError, AmbiguousWeightsError: there is no such part or no tensor, or several parts to choose from.
        InvalidRequestError: a pattern matches no name.
        UnsupportedValueError: a tensor has no plain bytes in the file (a strided view, compressed, quantised), and
            PyTorch, which could gather them, is not installed or cannot either.
        StorageFullError: the disk filled up; nothing was written.
    """
    found: list[_Item] = []
    entries: list[str] = []
    kept: dict[str, Any] = {}
    for file in files:
        inspection = inspect_file(file)
        chosen = choose_part(inspection, part)
        found += _items(file, inspection, chosen)
        entries += [entry.name for entry in inspection.entries if entry.part == chosen]
        kept |= inspection.metadata.get(chosen or "") or json.loads(inspection.file_metadata.get(METADATA_KEY, "{}"))
    wanted = select_names([item.name for item in found], include or (), exclude or ())
    items = [item for item in found if item.name in wanted]
    if not items:
        raise NoWeightsError("No tensor is left to write. `weighbridge inspect` lists the names that there are.")
    notices = [f"Left out, as it is no tensor: {name}." for name in entries]
    described = {"format": "pt"} | ({METADATA_KEY: json.dumps(kept)} if kept else {})
    planned = plan([_describe(item) for item in items], described)
    with writing_to(output) as temporary:
        if all(_is_plain(item) for item in items):
            _write(items, planned, temporary)
        else:
            _write_by_torch(files, part, items, planned, temporary)
    return Exported(len(items), notices)


def _items(file: Path, inspection: Inspection, part: str | None) -> list[_Item]:
    swapped = {storage.key for storage in inspection.storages if storage.big_endian}
    return [
        _Item(_name_in_part(tensor), file, tensor, tensor.storage_key in swapped)
        for tensor in inspection.tensors
        if tensor.part == part and tensor.role not in _LEFT_OUT_ROLES
    ]


def _name_in_part(tensor: TensorRecord) -> str:
    """Return the key in the state_dict: the tensor's path without that of its part."""
    if tensor.part is None:
        return tensor.name
    for depth in range(1, len(tensor.path)):
        if ".".join(map(str, tensor.path[:depth])) == tensor.part:
            return ".".join(map(str, tensor.path[depth:]))
    return tensor.name


def _is_plain(item: _Item) -> bool:
    """Return whether the tensor's values lie in the file as safetensors wants them."""
    tensor = item.tensor
    copied = tensor.file_offset is not None and is_contiguous(tensor)
    return copied and not (tensor.conj or tensor.neg or item.swapped)


def _describe(item: _Item) -> tuple[str, str, tuple[int, ...], int]:
    tensor = item.tensor
    if tensor.layout != "strided" or tensor.quantisation or tensor.components:
        raise UnsupportedValueError(
            f"safetensors cannot hold {item.name!r}, which is no plain tensor. Leave it out, or `download` the file "
            "as it is."
        )
    return item.name, tensor.dtype, tensor.shape, tensor.nbytes


def _write(items: Sequence[_Item], planned: WritePlan, path: Path) -> None:
    by_name = {item.name: item for item in items}
    with path.open("wb") as target:
        target.write(planned.header)
        for name in planned.offsets:
            _copy(by_name[name], target)


def _copy(item: _Item, target: BinaryIO) -> None:
    start, size = item.tensor.file_offset or 0, item.tensor.nbytes
    with FileSource(item.file) as source:
        pieces = ((start + done, min(PIECE_BYTES, size - done)) for done in range(0, size, PIECE_BYTES))
        target.writelines(source.read_many([piece])[0] for piece in pieces)


def _write_by_torch(
    files: Sequence[Path], part: str | None, items: Sequence[_Item], planned: WritePlan, target: Path
) -> None:
    """Let PyTorch gather the values, one tensor at a time, where some do not lie in the file as they are."""
    try:
        load, writer = import_load(), import_safetensors_writer()
    except ConfigurationError as error:
        indirect = ", ".join([item.name for item in items if not _is_plain(item)][:10])
        raise UnsupportedValueError(
            f"These tensors do not lie in the file as plain bytes: {indirect}. Leave them out, or install PyTorch: "
            "`pip install 'weighbridge[torch]'`."
        ) from error
    values = load.load_state_dict(files, part=part)
    writer.write(target, planned, {item.name: values[item.name].resolve_conj().resolve_neg() for item in items})
