"""What a reader reports of a weight file: its tensors, storages, entries, scalars and verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from registry.formats.nodes import Node

Format: TypeAlias = Literal[
    "torch-zip", "torch-legacy", "torch-tar", "torchscript", "torch-export", "torch-package", "safetensors"
]
Kind: TypeAlias = Literal["state_dict", "checkpoint", "module", "torchscript", "opaque"]
Trust: TypeAlias = Literal["tensors", "code", "unsafe"]
Role: TypeAlias = Literal[
    "parameter", "buffer", "non_persistent_buffer", "attribute", "optimizer", "constant", "unknown"
]
PathKey: TypeAlias = str | int


class StorageRecord(NamedTuple):
    """The bytes that one or more tensors view.

    Attributes:
        key: unique in the file: the record's key of a torch file, the tensor's name of a safetensors file.
        nbytes: size in bytes, uncompressed.
        file_offset: where the bytes start in the file; None when they are compressed.
        record: the archive record that holds them (`m/data/0`), None in flat formats.
        big_endian: elements must be swapped on read.
        location: the device it was saved from (`cuda:0`), for display.
    """

    key: str
    nbytes: int
    file_offset: int | None
    record: str | None = None
    big_endian: bool = False
    location: str = "cpu"


_NO_COMPONENTS: Mapping[str, "TensorRecord"] = MappingProxyType({})


class TensorRecord(NamedTuple):
    """One tensor as the file describes it.

    Attributes:
        name: the container keys joined by dots (`state_dict.conv1.weight`); for a pickled module the parameter's name.
        path: the container keys themselves; list positions are integers.
        part: the state_dict inside a checkpoint that it belongs to (`state_dict_ema`), None in a plain state_dict.
        dtype: as in `torch.float32`, without the prefix.
        shape, stride: in elements. `storage_offset`: of the first element, in elements.
        storage_key: the `StorageRecord` it views; None when it has no bytes of its own (meta, sparse, nested).
        file_offset: where its first element lies in the file, in bytes; None when compressed or without storage.
        nbytes: numel x itemsize, what its values would take on their own.
        role: what it is to a module.
        requires_grad: as stored.
        device: as stored, for display.
        layout: `strided`, `sparse_coo`, `sparse_csr`, `sparse_csc`, `sparse_bsr`, `sparse_bsc`, `nested`.
        conj, neg: torch's lazy conjugate and negative bits.
        quantisation: `{"scheme": "per_tensor_affine", "scale": 0.1, "zero_point": 0}`, or for
            `per_channel_affine` `{"scheme", "axis"}` with components `scales` and `zero_points`.
        components: the tensors that a sparse, nested or per-channel quantised tensor is made of, by name.
    """

    name: str
    path: tuple[PathKey, ...]
    part: str | None
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage_offset: int
    storage_key: str | None
    file_offset: int | None
    nbytes: int
    role: Role = "unknown"
    requires_grad: bool = False
    device: str = "cpu"
    layout: str = "strided"
    conj: bool = False
    neg: bool = False
    quantisation: dict[str, Any] | None = None
    components: Mapping[str, "TensorRecord"] = _NO_COMPONENTS


class EntryRecord(NamedTuple):
    """A non-tensor value inside a state_dict (`_extra_state`, quantisation parameters).

    `value` is set when the value is plain JSON; `type_name` names what it is otherwise.
    """

    name: str
    path: tuple[PathKey, ...]
    part: str | None
    type_name: str
    value: Any = None


@dataclass(slots=True)
class Inspection:
    """What a weight file holds, without its bytes.

    Attributes:
        format, kind, trust: DESIGN's words.
        reasons: sentences that say why `trust` is not `tensors`, and what was noticed.
        globals: sorted `module.name` of everything the file refers to, allow-listed or not.
        foreign_globals: those outside the allow-list.
        size: of the file, in bytes.
        scalars: a checkpoint's plain values by dotted name (`epoch`, `hyper_parameters.lr`).
        entries, tensors, storages: in stored order.
        metadata: `state_dict._metadata` by part (the key None is written as ""): prefix → plain dict.
        parts: the state_dicts inside a checkpoint, in stored order.
        file_metadata: `__metadata__` of a safetensors file.
        unknown_records: archive records that are neither known nor pickles nor archives.
        sources: for legacy and tar files, the embedded class source by global name; at most 64 KiB each, 1 MiB in all.
    """

    format: Format
    kind: Kind
    trust: Trust
    size: int
    reasons: list[str] = field(default_factory=list[str])
    globals: list[str] = field(default_factory=list[str])
    foreign_globals: list[str] = field(default_factory=list[str])
    scalars: dict[str, Any] = field(default_factory=dict[str, Any])
    entries: list[EntryRecord] = field(default_factory=list[EntryRecord])
    tensors: list[TensorRecord] = field(default_factory=list[TensorRecord])
    storages: list[StorageRecord] = field(default_factory=list[StorageRecord])
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    parts: list[str] = field(default_factory=list[str])
    file_metadata: dict[str, str] = field(default_factory=dict[str, str])
    unknown_records: list[str] = field(default_factory=list[str])
    sources: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Document:
    """A file as read: the inspection, and the root of the inert object graph for whoever restores values.

    `root` is None for formats that hold no pickle (safetensors) or whose pickle is not restored (TorchScript), and of
    a plain file: its tensors by name, in that order, and `_metadata` are all that its pickle says.
    """

    inspection: Inspection
    root: Node = None
    is_plain: bool = False
