"""The JSON by which `torch.export.save` describes weights: which record holds each, and how it views its bytes."""

import re
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.bounded_json import parse_json
from registry.formats.limits import Limits

_RECORD = re.compile(r"(?:weight|tensor)_[0-9]{1,9}")
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
    29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu",
    34: "uint32", 35: "uint64",
}  # fmt: skip
"""torch.export's numbers of dtypes (`torch._export.serde.schema.ScalarType`)."""
_STRIDED = 7


@dataclass(frozen=True, slots=True)
class View:
    """How a weight views the bytes of its record; shape, stride and offset in elements.

    Attributes:
        location: the device it was saved from.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    requires_grad: bool
    location: str


@dataclass(frozen=True, slots=True)
class WeightEntry:
    """One weight of a configuration.

    Attributes:
        name: as the state_dict has it.
        record: that holds its bytes.
        view: of the bytes; None when the record is a torch.save file.
    """

    name: str
    record: str
    is_parameter: bool
    view: View | None


def read_config(archive: Archive, record: str, limits: Limits) -> list[WeightEntry]:
    """Return the weights that a configuration describes; constants that are no tensors are left out.

    Raises:
        MalformedArtifactError: it is not what torch.export writes.
    """
    document = parse_json(archive.read(record, limits.json_bytes), limits, f"record {record!r}")
    config = _members(_members(document).get("config"))
    if not isinstance(document, dict) or "config" not in document or len(config) > limits.names:
        _refuse(record, f"describes no weights, or more than {limits.names}")
    folder = record.rpartition("/")[0]
    entries: list[WeightEntry] = []
    for name, value in config.items():
        shown, members = repr(name[:100]), _members(value)
        path, is_parameter, is_pickled = (members.get(each) for each in ("path_name", "is_param", "use_pickle"))
        if type(path) is not str or type(is_parameter) is not bool or type(is_pickled) is not bool:
            _refuse(record, f"does not describe {shown}")
        if len(name.encode()) > limits.name_bytes:
            _refuse(record, f"has a name longer than {limits.name_bytes} bytes")
        if is_pickled and members.get("tensor_meta") is None:
            continue
        if not _RECORD.fullmatch(path) or f"{folder}/{path}" not in archive.entries:
            _refuse(record, f"places {shown} in a record that the archive does not hold")
        view = None if is_pickled else _view(members.get("tensor_meta"))
        if view is None and not is_pickled:
            _refuse(record, f"does not say how {shown} views its bytes")
        entries.append(WeightEntry(name, f"{folder}/{path}", is_parameter, view))
    return entries


def _view(value: Any) -> View | None:
    meta = _members(value)
    dtype, layout, requires_grad = meta.get("dtype"), meta.get("layout"), meta.get("requires_grad")
    shape, stride, offset = _sizes(meta.get("sizes")), _sizes(meta.get("strides")), _size(meta.get("storage_offset"))
    if type(dtype) is not int or dtype not in _DTYPES or type(layout) is not int or layout != _STRIDED:
        return None
    if shape is None or stride is None or offset is None or type(requires_grad) is not bool:
        return None
    return View(_DTYPES[dtype], shape, stride, offset, requires_grad, _location(meta.get("device")))


def _location(value: Any) -> str:
    device = _members(value)
    kind, index = device.get("type"), device.get("index")
    if type(kind) is not str:
        return "cpu"
    return f"{kind}:{index}" if type(index) is int else kind


def _sizes(value: Any) -> tuple[int, ...] | None:
    sizes = [_size(each) for each in cast("list[Any]", value)] if isinstance(value, list) else [None]
    return None if None in sizes else tuple(cast("list[int]", sizes))


def _size(value: Any) -> int | None:
    """Return a size, which torch.export wraps since sizes can be expressions; those of weights never are."""
    members = _members(value)
    size = members.get("as_int")
    return size if len(members) == 1 and type(size) is int else None


def _members(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _refuse(record: str, problem: str) -> NoReturn:
    raise MalformedArtifactError(f"The record {record!r} of the torch.export archive {problem}.")
