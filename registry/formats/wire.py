r"""An `Inspection` as JSON and back: between the scanning process and the service, and in tensor manifests.

The JSON is always valid UTF-8 and holds nothing that other parsers refuse, whatever the file said:

- floats that JSON lacks are `{"$float": "nan" | "inf" | "-inf"}`;
- integers of more than 64 bits are `{"$int": "0x…"}`;
- dicts with keys that begin with `$` are `{"$dict": [[key, value], …]}`;
- lone surrogates in texts are written out (`\ud800`), which is not undone.

Members of tensors that have their usual value (`device`, `layout`, `conj`, `neg`, `quantisation`, `components`), and
members of storages likewise, are left out.
"""

import math
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from registry.errors import MalformedArtifactError
from registry.formats.inspection import EntryRecord, Inspection, PathKey, StorageRecord, TensorRecord

if TYPE_CHECKING:
    from collections.abc import Callable

_DEPTH = 64
_TENSOR_MEMBERS = cast("Callable[[dict[str, Any]], tuple[Any, ...]]", itemgetter(*TensorRecord._fields[:12]))
_FEWEST_MEMBERS = 13
"""Of a tensor in a manifest: nothing unusual, and the digest."""
_INTEGER_BITS = 63
_USUAL_TENSOR: dict[str, Any] = {
    "device": "cpu",
    "layout": "strided",
    "conj": False,
    "neg": False,
    "quantisation": None,
}
_USUAL_STORAGE: dict[str, Any] = {"record": None, "big_endian": False, "location": "cpu"}


def inspection_to_json(inspection: Inspection) -> dict[str, Any]:
    """Return an inspection as JSON values, which `inspection_from_json` reads back."""
    return {
        "format": inspection.format,
        "kind": inspection.kind,
        "trust": inspection.trust,
        "reasons": [_text(each) for each in inspection.reasons],
        "globals": [_text(each) for each in inspection.globals],
        "foreign_globals": [_text(each) for each in inspection.foreign_globals],
        "size": inspection.size,
        "scalars": {_text(name): value_to_json(value) for name, value in inspection.scalars.items()},
        "entries": [_entry_to_json(entry) for entry in inspection.entries],
        "tensors": [tensor_to_json(tensor) for tensor in inspection.tensors],
        "storages": [_storage_to_json(storage) for storage in inspection.storages],
        "metadata": {
            _text(part): {_text(prefix): value_to_json(value) for prefix, value in values.items()}
            for part, values in inspection.metadata.items()
        },
        "parts": [_text(part) for part in inspection.parts],
        "file_metadata": {_text(key): _text(value) for key, value in inspection.file_metadata.items()},
        "unknown_records": [_text(each) for each in inspection.unknown_records],
        "sources": {_text(name): _text(source) for name, source in inspection.sources.items()},
    }


def inspection_from_json(document: dict[str, Any]) -> Inspection:
    """Return the inspection that `inspection_to_json` wrote; further members, such as digests, are ignored.

    Raises:
        MalformedArtifactError: it is not what `inspection_to_json` writes.
    """
    try:
        return Inspection(
            format=document["format"],
            kind=document["kind"],
            trust=document["trust"],
            size=document["size"],
            reasons=list(document["reasons"]),
            globals=list(document["globals"]),
            foreign_globals=list(document["foreign_globals"]),
            scalars={name: value_from_json(value) for name, value in document["scalars"].items()},
            entries=[_entry_from_json(entry) for entry in document["entries"]],
            tensors=[_tensor_from_json(tensor) for tensor in document["tensors"]],
            storages=[_storage_from_json(storage) for storage in document["storages"]],
            metadata={
                part: {prefix: value_from_json(value) for prefix, value in values.items()}
                for part, values in document["metadata"].items()
            },
            parts=list(document["parts"]),
            file_metadata=dict(document["file_metadata"]),
            unknown_records=list(document["unknown_records"]),
            sources=dict(document["sources"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedArtifactError(f"This is no description of a weight file: {error!r}.") from error


def value_to_json(value: Any, depth: int = 0) -> Any:
    """Return a plain Python value as JSON. Tuples become lists; what is not plain becomes its `repr`.

    Raises:
        MalformedArtifactError: it is nested more than 64 deep.
    """
    if depth > _DEPTH:
        raise MalformedArtifactError(f"A value of the file is nested more than {_DEPTH} deep.")
    if isinstance(value, dict):
        pairs = [(_key(key), value_to_json(each, depth + 1)) for key, each in cast("dict[Any, Any]", value).items()]
        if any(key.startswith("$") for key, _ in pairs):
            return {"$dict": [[key, each] for key, each in pairs]}
        return dict(pairs)
    if isinstance(value, list | tuple):
        return [value_to_json(each, depth + 1) for each in cast("list[Any]", value)]
    return _number_to_json(value) if isinstance(value, int | float) else _other_to_json(value)


def _number_to_json(value: float) -> Any:
    if isinstance(value, int):
        return value if value.bit_length() <= _INTEGER_BITS else {"$int": hex(value)}
    return value if math.isfinite(value) else {"$float": repr(value)}


def _other_to_json(value: Any) -> str | None:
    return None if value is None else _text(value if isinstance(value, str) else repr(value))


def value_from_json(value: Any) -> Any:
    """Return what `value_to_json` was given."""
    if isinstance(value, list):
        return [value_from_json(each) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, Any]", value)
    if len(members) == 1:
        (name, content), *_ = members.items()
        if name == "$float":
            return float(content)
        if name == "$int":
            return int(content, 16)
        if name == "$dict":
            return {key: value_from_json(each) for key, each in content}
    return {key: value_from_json(each) for key, each in members.items()}


def tensor_to_json(tensor: TensorRecord) -> dict[str, Any]:
    """Return one tensor as JSON values."""
    document: dict[str, Any] = {
        "name": _text(tensor.name),
        "path": _path(tensor.path),
        "part": None if tensor.part is None else _text(tensor.part),
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "stride": list(tensor.stride),
        "storage_offset": tensor.storage_offset,
        "storage_key": None if tensor.storage_key is None else _text(tensor.storage_key),
        "file_offset": tensor.file_offset,
        "nbytes": tensor.nbytes,
        "role": tensor.role,
        "requires_grad": tensor.requires_grad,
    }
    for name, usual in _USUAL_TENSOR.items():
        value = getattr(tensor, name)
        if value != usual:
            document[name] = value_to_json(value)
    if tensor.components:
        document["components"] = {name: tensor_to_json(each) for name, each in tensor.components.items()}
    return document


def _tensor_from_json(document: dict[str, Any]) -> TensorRecord:
    name, path, part, dtype, shape, stride, *others = _TENSOR_MEMBERS(document)
    record = TensorRecord(name, tuple(path), part, dtype, tuple(shape), tuple(stride), *others)
    if len(document) <= _FEWEST_MEMBERS and "digest" in document:  # as most are
        return record
    unusual = _USUAL_TENSOR.keys() & document.keys()
    if unusual:
        record = record._replace(**{name: value_from_json(document[name]) for name in unusual})
    if not document.get("components"):
        return record
    components = {name: _tensor_from_json(each) for name, each in document["components"].items()}
    return record._replace(components=components)


def _storage_to_json(storage: StorageRecord) -> dict[str, Any]:
    document: dict[str, Any] = {
        "key": _text(storage.key),
        "nbytes": storage.nbytes,
        "file_offset": storage.file_offset,
    }
    for name, usual in _USUAL_STORAGE.items():
        value = getattr(storage, name)
        if value != usual:
            document[name] = value_to_json(value)
    return document


def _storage_from_json(document: dict[str, Any]) -> StorageRecord:
    return StorageRecord(
        key=document["key"],
        nbytes=document["nbytes"],
        file_offset=document["file_offset"],
        **{name: document[name] for name in _USUAL_STORAGE.keys() & document.keys()},
    )


def _entry_to_json(entry: EntryRecord) -> dict[str, Any]:
    return {
        "name": _text(entry.name),
        "path": _path(entry.path),
        "part": None if entry.part is None else _text(entry.part),
        "type_name": _text(entry.type_name),
        "value": value_to_json(entry.value),
    }


def _entry_from_json(document: dict[str, Any]) -> EntryRecord:
    return EntryRecord(
        name=document["name"],
        path=tuple(document["path"]),
        part=document["part"],
        type_name=document["type_name"],
        value=value_from_json(document["value"]),
    )


def _path(path: tuple[PathKey, ...]) -> list[PathKey]:
    return [_text(key) if isinstance(key, str) else _path_number(key) for key in path]


def _path_number(key: int) -> PathKey:
    return key if key.bit_length() <= _INTEGER_BITS else hex(key)


def _key(key: Any) -> str:
    return _text(key if isinstance(key, str) else repr(key))


def _text(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
