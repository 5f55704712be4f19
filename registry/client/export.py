"""One safetensors file out of a state_dict's files, whatever their format: byte ranges are copied."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from registry.client.examine import inspect_file
from registry.client.glue import import_load, import_safetensors_writer
from registry.client.pull import writing_to
from registry.errors import ConfigurationError, NoWeightsError, UnsupportedValueError
from registry.formats.inspection import Inspection, TensorRecord
from registry.formats.source import FileSource
from registry.manifest import is_contiguous
from registry.state_dict import METADATA_KEY, choose_part, select_names

PIECE_BYTES = 1 << 20
_LEFT_OUT_ROLES = frozenset({"optimizer", "non_persistent_buffer", "attribute"})
_SAFETENSORS = {
    "float64": ("F64", 8),
    "complex64": ("C64", 8),
    "int64": ("I64", 8),
    "uint64": ("U64", 8),
    "float32": ("F32", 4),
    "int32": ("I32", 4),
    "uint32": ("U32", 4),
    "bfloat16": ("BF16", 2),
    "float16": ("F16", 2),
    "int16": ("I16", 2),
    "uint16": ("U16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "float8_e4m3fnuz": ("F8_E4M3FNUZ", 1),
    "float8_e5m2fnuz": ("F8_E5M2FNUZ", 1),
    "float8_e8m0fnu": ("F8_E8M0", 1),
    "int8": ("I8", 1),
    "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
}
"""torch's dtypes as the safetensors format calls them, with bytes per element."""


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
    with writing_to(output) as temporary:
        indirect = [item.name for item in items if not _is_plain(item)]
        if indirect:
            _write_by_torch(files, part, items, described, temporary)
        else:
            _write(items, described, temporary)
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
    return (
        _has_plain_values(tensor)
        and tensor.file_offset is not None
        and is_contiguous(tensor)
        and not (tensor.conj or tensor.neg or item.swapped)
    )


def _has_plain_values(tensor: TensorRecord) -> bool:
    """Return whether safetensors can say what the tensor is."""
    return (
        tensor.dtype in _SAFETENSORS and tensor.layout == "strided" and not (tensor.quantisation or tensor.components)
    )


def _write(items: Sequence[_Item], described: Mapping[str, str], path: Path) -> None:
    # Wide elements first keeps every tensor aligned, as the format's own writer does.
    ordered = sorted(items, key=lambda item: (-_SAFETENSORS[item.tensor.dtype][1], item.name))
    header: dict[str, object] = {"__metadata__": described}
    offset = 0
    for item in ordered:
        end = offset + item.tensor.nbytes
        header[item.name] = {
            "dtype": _SAFETENSORS[item.tensor.dtype][0],
            "shape": list(item.tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for item in ordered:
            _copy(item, target)


def _copy(item: _Item, target: BinaryIO) -> None:
    start, size = item.tensor.file_offset or 0, item.tensor.nbytes
    with FileSource(item.file) as source:
        pieces = ((start + done, min(PIECE_BYTES, size - done)) for done in range(0, size, PIECE_BYTES))
        target.writelines(source.read_many([piece])[0] for piece in pieces)


def _write_by_torch(
    files: Sequence[Path], part: str | None, items: Sequence[_Item], described: Mapping[str, str], target: Path
) -> None:
    """Let PyTorch gather the values, one tensor at a time, where some do not lie in the file as they are."""
    indirect = ", ".join([item.name for item in items if not _is_plain(item)][:10])
    if any(not _has_plain_values(item.tensor) for item in items):
        raise UnsupportedValueError(
            f"safetensors cannot hold all of {indirect}. Leave such tensors out, or `download` the file as it is."
        )
    try:
        load, writer = import_load(), import_safetensors_writer()
    except ConfigurationError as error:
        raise UnsupportedValueError(
            f"These tensors do not lie in the file as plain bytes: {indirect}. Leave them out, or install PyTorch: "
            "`pip install 'weighbridge[torch]'`."
        ) from error
    values = load.load_state_dict(files, part=part)
    writer.write(target, {item.name: values[item.name].resolve_conj().resolve_neg() for item in items}, described)
