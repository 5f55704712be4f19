"""One safetensors file out of a state_dict's files, whatever their format: byte ranges are copied."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from registry.client.examine import inspect_file
from registry.client.glue import import_load, import_safetensors_writer
from registry.client.placing import writing_to
from registry.errors import ConfigurationError, NoWeightsError, TooLargeError, UnsupportedValueError
from registry.formats.inspection import Inspection, StorageRecord, TensorRecord
from registry.formats.safetensors import WritePlan, plan
from registry.formats.source import FileSource
from registry.manifest import is_contiguous
from registry.pieces import WeightFile
from registry.sizes import format_size
from registry.state_dict import METADATA_KEY, choose_part, refuse_unsafe, select_names

Tied: TypeAlias = Literal["copy", "once"]

PIECE_BYTES = 1 << 20
MAX_EXPANSION = 4
"""How many times the stored bytes an export may have unasked: an expanded view of 24 bytes can claim to be 4 TiB."""
_LEFT_OUT_ROLES = frozenset({"optimizer", "non_persistent_buffer", "attribute"})


@dataclass(frozen=True, slots=True)
class Exported:
    """How many tensors were written, and sentences about what was not."""

    tensor_count: int
    notices: list[str]


@dataclass(frozen=True, slots=True)
class _Item:
    """A tensor to write; its values lie in `file` from `start` on, where they lie anywhere as they are."""

    name: str
    shard: int
    file: Path | None
    start: int
    tensor: TensorRecord
    storage: StorageRecord | None

    @property
    def view(self) -> tuple[Any, ...] | None:
        """What two names of one tensor have in common, None where the tensor has no storage of its own."""
        each = self.tensor
        if each.storage_key is None or not each.nbytes:
            return None
        return self.shard, each.storage_key, each.storage_offset, each.dtype, each.shape, each.stride


@dataclass(slots=True)
class _Gathered:
    items: list[_Item] = field(default_factory=list[_Item])
    entries: list[str] = field(default_factory=list[str])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


def export_safetensors(
    files: Sequence[WeightFile],
    output: Path,
    *,
    part: str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    tied: Tied = "copy",
    expand: bool = False,
) -> Exported:
    """Write the state_dict that the files make up as one safetensors file, which appears when it is complete.

    The format has no shared memory. Every name gets its values, or with `tied="once"` only the first name of each tied
    tensor; the others are in the header's metadata (`{"lm_head.weight": "embed.weight"}`), as
    `safetensors.torch.save_model` writes them and `load_model` restores them.

    Args:
        files: one weight file, or the shards of one state_dict.
        output: the file to write or replace.
        part: the state_dict inside a checkpoint.
        include: glob patterns of names to take.
        exclude: glob patterns of names to leave out.
        tied: whether tied tensors are written under each of their names.
        expand: allow a file of more than four times the bytes that are stored.

    Raises:
        NoWeightsError, AmbiguousWeightsError: there is no such part or no tensor, or several parts to choose from.
        UnsafeArtifactError: a file would do harm when it is loaded.
        TooLargeError: expanded views would make the file many times as large as what is stored.
        InvalidRequestError: a pattern matches no name.
        UnsupportedValueError: a tensor has no plain bytes in the file (a strided view, compressed, quantised), and
            PyTorch, which could gather them, is not installed or cannot either.
        StorageFullError: the disk filled up; nothing was written.
    """
    gathered = _gather(files, part)
    wanted = select_names([item.name for item in gathered.items], include or (), exclude or ())
    items = [item for item in gathered.items if item.name in wanted]
    if not items:
        raise NoWeightsError("No tensor is left to write. `weighbridge inspect` lists the names that there are.")
    described = {"format": "pt"} | ({METADATA_KEY: json.dumps(gathered.metadata)} if gathered.metadata else {})
    notices = [f"Left out, as it is no tensor: {name}." for name in gathered.entries]
    if tied == "once":
        items, first_names = _without_repeats(items)
        described = first_names | described
        notices += [f"Written once: {name} is {first}." for name, first in first_names.items()]
    planned = plan([_describe(item) for item in items], described)
    if not expand:
        _refuse_expansion(items)
    with writing_to(output) as temporary:
        if all(_is_plain(item) for item in items):
            _write(items, planned, temporary)
        else:
            _write_by_torch(files, part, items, planned, temporary)
    return Exported(len(items), notices)


def _gather(files: Sequence[WeightFile], part: str | None) -> _Gathered:
    gathered = _Gathered()
    for shard, file in enumerate(files):
        inspection = inspect_file(file) if isinstance(file, Path) else file.document.inspection
        refuse_unsafe(file.name, inspection)
        chosen = choose_part(inspection, part)
        gathered.items += _items(shard, file, inspection, chosen)
        gathered.entries += [entry.name for entry in inspection.entries if entry.part == chosen]
        kept = json.loads(inspection.file_metadata.get(METADATA_KEY, "{}"))
        gathered.metadata |= inspection.metadata.get(chosen or "") or kept
    return gathered


def _items(shard: int, file: WeightFile, inspection: Inspection, part: str | None) -> list[_Item]:
    storages = {storage.key: storage for storage in inspection.storages}
    items: list[_Item] = []
    for tensor in inspection.tensors:
        if tensor.part == part and tensor.role not in _LEFT_OUT_ROLES:
            storage = storages.get(tensor.storage_key or "")
            place = _find_values(file, tensor, storage)
            items.append(_Item(_name_in_part(tensor), shard, *place, tensor, storage))
    return items


def _find_values(file: WeightFile, tensor: TensorRecord, storage: StorageRecord | None) -> tuple[Path | None, int]:
    """Return the file that holds a tensor's values, if one does, and where they begin there."""
    start = tensor.file_offset
    if isinstance(file, Path) or start is None or storage is None or storage.file_offset is None:
        return (file if isinstance(file, Path) and start is not None else None), start or 0
    place = file.places.get(storage.key)
    return (place.file, place.offset + start - storage.file_offset) if place is not None else (None, 0)


def _refuse_expansion(items: Sequence[_Item]) -> None:
    stored = {(item.shard, item.storage.key): item.storage.nbytes for item in items if item.storage is not None}
    total, stored_bytes = sum(item.tensor.nbytes for item in items), sum(stored.values())
    if stored and total > MAX_EXPANSION * stored_bytes:
        widest = max(items, key=lambda item: item.tensor.nbytes)
        raise TooLargeError(
            f"It would take {format_size(total)}, and {format_size(stored_bytes)} are stored: views such as "
            f"{widest.name!r} repeat what they show. If you want that, say `--expand` (`expand=True`)."
        )


def _without_repeats(items: Sequence[_Item]) -> tuple[list[_Item], dict[str, str]]:
    """Return the items less those that are the very view of an earlier one, and those names with the earlier one's."""
    firsts: dict[tuple[Any, ...], str] = {}
    kept: list[_Item] = []
    repeated: dict[str, str] = {}
    for item in items:
        first = item.name if item.view is None else firsts.setdefault(item.view, item.name)
        if first == item.name:
            kept.append(item)
        else:
            repeated[item.name] = first
    return kept, repeated


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
    copied = (item.file is not None or not tensor.nbytes) and is_contiguous(tensor)
    swapped = item.storage is not None and item.storage.big_endian
    return copied and not (tensor.conj or tensor.neg or swapped)


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
    start, size = item.start, item.tensor.nbytes
    if item.file is None or not size:
        return
    with FileSource(item.file) as source:
        pieces = ((start + done, min(PIECE_BYTES, size - done)) for done in range(0, size, PIECE_BYTES))
        target.writelines(source.read_many([piece])[0] for piece in pieces)


def _write_by_torch(
    files: Sequence[WeightFile], part: str | None, items: Sequence[_Item], planned: WritePlan, target: Path
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
    values = load.load_state_dict(files, part=part, names={item.name for item in items})
    writer.write(target, planned, {item.name: values[item.name].resolve_conj().resolve_neg() for item in items})
