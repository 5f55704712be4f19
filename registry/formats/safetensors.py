"""The safetensors format: a length, a JSON header, and the bytes of all tensors. Its strict reader and its writer."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, cast

from registry.errors import MalformedArtifactError, UnsupportedValueError
from registry.formats.bounded_json import parse_json
from registry.formats.facts import contiguous_stride, count_without_zeros
from registry.formats.inspection import Document, Inspection, Role, StorageRecord, TensorRecord
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.formats.source import ByteSource

MAX_HEADER_BYTES = 100_000_000
"""The reference refuses longer headers."""

_LENGTH_BYTES = 8
_ALIGNMENT_BYTES = 64
_FIELDS = {"dtype", "shape", "data_offsets"}
_METADATA = "__metadata__"
_FLOAT4 = "float4_e2m1fn_x2"
_BUFFER = re.compile(r"(?:.*\.)?(?:running_mean|running_var|num_batches_tracked)", re.DOTALL)

_DTYPES: dict[str, tuple[int, str]] = {
    "BOOL": (8, "bool"), "U8": (8, "uint8"), "I8": (8, "int8"),
    "F8_E5M2": (8, "float8_e5m2"), "F8_E4M3": (8, "float8_e4m3fn"), "F8_E8M0": (8, "float8_e8m0fnu"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"), "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "I16": (16, "int16"), "U16": (16, "uint16"), "F16": (16, "float16"), "BF16": (16, "bfloat16"),
    "I32": (32, "int32"), "U32": (32, "uint32"), "F32": (32, "float32"),
    "I64": (64, "int64"), "U64": (64, "uint64"), "F64": (64, "float64"), "C64": (64, "complex64"),
    "F4": (4, _FLOAT4), "F6_E2M3": (6, "f6_e2m3"), "F6_E3M2": (6, "f6_e3m2"),
}  # fmt: skip
"""What the format calls them: bits per element, and torch's name; where torch has none, the format's in lower case."""

_WRITTEN: dict[str, tuple[str, int]] = {
    name: (code, max(1, bits // 8)) for code, (bits, name) in _DTYPES.items() if not name.startswith("f6")
}
"""torch's names: the format's name, and bytes per element of torch's (two numbers in one of `float4_e2m1fn_x2`)."""


def can_hold(name: str, dtype: str, shape: Sequence[int]) -> bool:
    """Return whether a safetensors file can hold dense values of torch's dtype (`bfloat16`) under a name."""
    return dtype in _WRITTEN and name != _METADATA and (dtype != _FLOAT4 or len(shape) > 0)


def read_safetensors(source: ByteSource, limits: Limits = DEFAULT_LIMITS) -> Document:
    """Return what a safetensors file holds; only its header is read.

    Shapes of `F4` tensors are torch's, which counts pairs. Tensors come in the order of the header.

    Raises:
        MalformedArtifactError: it is not strictly what the format's specification says.
    """
    header, start = _read_header(source, limits)
    file_metadata = _file_metadata(header.pop(_METADATA, {}))
    if len(header) > limits.names:
        _refuse(f"it names more than {limits.names} tensors")
    tensors: list[TensorRecord] = []
    storages: list[StorageRecord] = []
    spans: list[tuple[int, int]] = []
    for name, fields in header.items():
        tensor, (begin, end) = _tensor(name, fields, start, limits)
        tensors.append(tensor)
        spans.append((begin, end))
        storages.append(StorageRecord(name, end - begin, start + begin))
    _check_tiling(spans, source.size - start)
    return Document(
        Inspection(
            "safetensors",
            "state_dict",
            "tensors",
            source.size,
            tensors=tensors,
            storages=storages,
            file_metadata=file_metadata,
        )
    )


def _read_header(source: ByteSource, limits: Limits) -> tuple[dict[str, Any], int]:
    """Return the header and where the tensors' bytes start."""
    if source.size < _LENGTH_BYTES:
        _refuse("it is shorter than 8 bytes")
    length = int.from_bytes(source.read_many([(0, _LENGTH_BYTES)])[0], "little")
    if length > min(MAX_HEADER_BYTES, limits.header_bytes):
        _refuse(f"its header would have {length} bytes")
    if _LENGTH_BYTES + length > source.size:
        _refuse(f"it is truncated: its header has {length} bytes, the file {source.size}")
    (text,) = source.read_many([(_LENGTH_BYTES, length)])
    header = parse_json(text, limits, "the header of the safetensors file") if text[:1] == b"{" else None
    if not isinstance(header, dict):
        _refuse("its header is no JSON object")
    return cast("dict[str, Any]", header), _LENGTH_BYTES + length


def _file_metadata(value: Any) -> dict[str, str]:
    members = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    if members is None or not all(isinstance(each, str) for each in members.values()):
        _refuse(f"{_METADATA} is no map of texts")
    return members


def _tensor(name: str, fields: Any, start: int, limits: Limits) -> tuple[TensorRecord, tuple[int, int]]:
    """Return a tensor and its span in the bytes behind the header."""
    if len(name.encode()) > limits.name_bytes:
        _refuse(f"a tensor's name is longer than {limits.name_bytes} bytes")
    shown = repr(name[:100])
    if not isinstance(fields, dict) or set(cast("dict[str, Any]", fields)) != _FIELDS:
        _refuse(f"{shown} has not exactly the fields dtype, shape and data_offsets")
    members = cast("dict[str, Any]", fields)
    code, shape, offsets = members["dtype"], _sizes(members["shape"]), _sizes(members["data_offsets"])
    if not isinstance(code, str) or code not in _DTYPES:
        _refuse(f"{shown} has the unknown dtype {str(code)[:100]!r}")
    if shape is None or offsets is None or len(offsets) != 2 or len(shape) > limits.dimensions:  # noqa: PLR2004 - begin and end
        _refuse(f"the shape or the offsets of {shown} are no lists of sizes")
    bits, dtype = _DTYPES[code]
    begin, end = offsets
    elements = math.prod(shape)
    if (elements or count_without_zeros(shape)) >= limits.elements or elements * bits != (end - begin) * 8:
        _refuse(f"{shown} has {end - begin} bytes, which do not make {elements} elements of {code}")
    dtype, shape = _as_torch(dtype, shape)
    role: Role = "buffer" if _BUFFER.fullmatch(name) else "unknown"
    record = TensorRecord(
        name, (name,), None, dtype, shape, contiguous_stride(shape), 0, name, start + begin, end - begin, role
    )
    return record, (begin, end)


def _sizes(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    for each in items:
        if type(each) is not int or each < 0:
            return None
    return tuple(items)


def _as_torch(dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape as torch has them: 4-bit numbers come in pairs along the last dimension."""
    if dtype != _FLOAT4:
        return dtype, shape
    if not shape or shape[-1] % 2:
        return "f4", shape
    return dtype, (*shape[:-1], shape[-1] // 2)


def _check_tiling(spans: list[tuple[int, int]], available: int) -> None:
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            _refuse("there are bytes between its tensors, or its tensors overlap")
        position = end
    if position != available:
        _refuse(f"its tensors end at {position} of {available} bytes: it is truncated, or something follows")


def _refuse(problem: str) -> NoReturn:
    raise MalformedArtifactError(f"The safetensors file cannot be read: {problem}.")


TensorPlan: TypeAlias = tuple[str, str, Sequence[int], int]
"""A tensor to be written: name, torch's dtype (`bfloat16`), shape, and size in bytes."""


@dataclass(frozen=True, slots=True)
class WritePlan:
    """A safetensors file that is still to be written.

    Attributes:
        header: the bytes that come first; its length is a multiple of 64.
        offsets: where each tensor starts in the file, in bytes, in the order to write them: they leave no gap.
        size: of the whole file, in bytes.
    """

    header: bytes
    offsets: dict[str, int]
    size: int


def plan(
    tensors: Sequence[TensorPlan], metadata: Mapping[str, str] | None = None, *, sorts_names: bool = False
) -> WritePlan:
    """Return the header and layout of a safetensors file with these tensors, whose bytes the caller then streams.

    Every tensor starts at a multiple of its element's size, as mapping it needs: the widest elements come first, as
    the reference writes them. The header keeps the order given, and with it the order of the state_dict.

    Args:
        tensors: what to write; the bytes of each are its elements in row-major order, little-endian.
        metadata: texts to keep in `__metadata__`.
        sorts_names: list the tensors by name in the header; their bytes keep the order given.

    Raises:
        UnsupportedValueError: the format has no such dtype, or a name is taken twice or reserved.
    """
    for name, dtype, shape, nbytes in tensors:
        if dtype not in _WRITTEN:
            raise UnsupportedValueError(f"safetensors has no {dtype}, which {name!r} is.", name=name)
        if nbytes != math.prod(shape) * _WRITTEN[dtype][1]:
            raise ValueError(f"{name!r} cannot have {nbytes} bytes: it has shape {tuple(shape)} and is {dtype}.")
        if name == _METADATA:
            raise UnsupportedValueError(f"safetensors keeps the name {_METADATA!r} for itself.", name=name)
    if len({name for name, *_ in tensors}) != len(tensors):
        raise UnsupportedValueError("Two tensors have one name.")
    relative: dict[str, int] = {}
    position = 0
    for name, _, _, nbytes in sorted(tensors, key=lambda each: -_WRITTEN[each[1]][1]):
        relative[name] = position
        position += nbytes
    header = _header(sorted(tensors) if sorts_names else tensors, relative, metadata or {})
    return WritePlan(header, {name: len(header) + at for name, at in relative.items()}, len(header) + position)


def _header(tensors: Sequence[TensorPlan], offsets: Mapping[str, int], metadata: Mapping[str, str]) -> bytes:
    members: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    for name, dtype, shape, nbytes in tensors:
        sizes = [*shape[:-1], shape[-1] * 2] if dtype == _FLOAT4 and shape else list(shape)
        members[name] = {
            "dtype": _WRITTEN[dtype][0],
            "shape": sizes,
            "data_offsets": [offsets[name], offsets[name] + nbytes],
        }
    try:
        text = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise UnsupportedValueError("safetensors cannot hold a name that is not valid Unicode.") from error
    text += b" " * (-(len(text) + _LENGTH_BYTES) % _ALIGNMENT_BYTES)
    if len(text) > MAX_HEADER_BYTES:
        raise UnsupportedValueError(
            f"The names need a header of {len(text)} bytes; safetensors allows {MAX_HEADER_BYTES}."
        )
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text
