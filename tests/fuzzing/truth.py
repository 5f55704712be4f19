"""What torch, safetensors and Python's own unpickler say of the same bytes, for the reader to be compared with."""

import functools
import io
import math
import pickle
import tempfile
import types
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.torch
import torch
from corpus.manifests import facts_in, facts_of
from torch import _weights_only_unpickler

from registry.formats.inspection import Inspection, StorageRecord, TensorRecord

_NUMPY = (
    np.dtype,
    np.ndarray,
    np._core.multiarray.scalar,
    np._core.multiarray._reconstruct,
    np._core.numeric._frombuffer,
)
_NUMPY_TYPES = (*_NUMPY, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGSUV"})
_TRIED_AGAIN = ("Unsupported operand", "pickle protocol", "UntypedStorage' has no attribute 'dtype'")
"""What `weights_only` says of opcodes that it lacks, and of types that it does not find in legacy files."""


_TORCH_LACKS = (
    "'torch.storage.UntypedStorage' has no attribute 'dtype'",  # float8 in legacy files, which it writes
    "Expected one of cpu, cuda",  # a device of another build
    "a leaf Variable that requires grad is being used in an in-place",  # float8 with a gradient, which it writes
)
"""Why torch does not read what it wrote, or might have written."""
_UNTYPED = "torch._utils._rebuild_tensor_v3"
"""Numbers of these tensors torch does not swap, in files that say that all are big-endian; it writes such files."""


class RefusedError(Exception):
    """Torch does not read the file."""


@functools.cache
def allowed() -> dict[str, Any]:
    """Return what a file of nothing but tensors may mention: torch's own list, numpy's data, Python 2's names."""
    found = dict(_weights_only_unpickler._get_allowed_globals())
    for each in _NUMPY:
        found[f"{each.__module__}.{each.__name__}"] = each
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found[f"{module}.scalar"], found[f"{module}._reconstruct"] = (
            np._core.multiarray.scalar,
            np._core.multiarray._reconstruct,
        )
    for module in ("numpy.core.numeric", "numpy._core.numeric"):
        found[f"{module}._frombuffer"] = np._core.numeric._frombuffer
    for name, each in (("set", set), ("bytearray", bytearray), ("complex", complex)):
        found[f"__builtin__.{name}"] = each
    return found


class _Restricted(pickle.Unpickler):
    """Python's unpickler of every opcode, that finds nothing but what is allowed."""

    def find_class(self, module: str, name: str) -> Any:
        found = allowed().get(f"{module}.{name}")
        if found is None:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return found


def _load(file: Any, **settings: Any) -> Any:
    return _Restricted(file, **settings).load()


_RESTRICTED = types.SimpleNamespace(Unpickler=_Restricted, load=_load, __name__="restricted")


def load(data: bytes, form: str) -> Any:
    """Return what torch reads.

    Raises:
        RefusedError: it reads nothing.
    """
    try:
        if form == "torch-tar":
            return _load_tar(data)
        with torch.serialization.safe_globals(list(_NUMPY_TYPES)):
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        if form == "torch-tar" or not any(text in _shown(error) for text in _TRIED_AGAIN):
            raise RefusedError(_shown(error)) from error
    try:
        return torch.load(io.BytesIO(data), weights_only=False, pickle_module=_RESTRICTED, map_location="cpu")
    except Exception as error:
        raise RefusedError(_shown(error)) from error


def _load_tar(data: bytes) -> Any:
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        Path(file.name).write_bytes(data)
        return torch.load(file.name, weights_only=False, pickle_module=_RESTRICTED, map_location="cpu")


def _shown(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:600]
    except Exception:  # noqa: BLE001 - numpy cannot say what it refuses where a dtype is half made
        return type(error).__name__


def difference(inspection: Inspection, data: bytes) -> str | None:
    """Return in what the reader and the library that the file is for disagree, None when they do not.

    Only for files that the reader calls `tensors`.
    """
    if inspection.format == "safetensors":
        return _safetensors_difference(inspection, data)
    try:
        value = load(data, inspection.format)
    except RefusedError as error:
        # The indices of sparse tensors lie in the bytes, which the reader does not look at; a legacy file rebuilds
        # nested tensors before it has their sizes.
        unseen = any(each.layout != "strided" for each in inspection.tensors)
        return (
            None if unseen or any(text in str(error) for text in _TORCH_LACKS) else f"torch does not read it: {error}"
        )
    listed = list(_listed(value))
    if len(listed) != len(inspection.tensors):
        return f"torch has {[name for name, _, _ in listed]}, the reader {[each.name for each in inspection.tensors]}"
    plain = all(exact for _, exact, _ in listed)
    theirs = sorted(((name if plain else "", facts_of(each)) for name, _, each in listed), key=repr)
    ours = sorted(((each.name if plain else "", facts_in(each)) for each in inspection.tensors), key=repr)
    if theirs != ours:
        return f"torch has {theirs}, the reader {ours}"
    return _value_difference(listed, inspection, data) if plain else None


def _listed(value: Any) -> Any:
    """Yield the name, whether it is exact, and the tensor, as the reader names them; with a stack of its own."""
    waiting: list[tuple[Any, str, bool, frozenset[int], bool]] = [(value, "", True, frozenset(), True)]
    while waiting:
        value, name, exact, above, root = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield name, exact, value
            continue
        if id(value) in above:
            continue
        members: list[tuple[Any, Any]] = []
        if isinstance(value, dict):
            members = list(value.items())
        elif isinstance(value, list | tuple | set | frozenset):
            members = list(enumerate(value))
            exact = exact and not isinstance(value, set | frozenset)
        for key, each in reversed(members):
            known = exact and isinstance(key, str | int) and not isinstance(key, bool)
            waiting.append((each, str(key) if root else f"{name}.{key}", known, above | {id(value)}, False))


def _value_difference(listed: list[tuple[str, bool, Any]], inspection: Inspection, data: bytes) -> str | None:
    storages = {each.key: each for each in inspection.storages}
    left = list(listed)
    for record in inspection.tensors:
        if record.layout != "strided" or record.storage_key is None or record.device == "meta":
            continue
        if storages[record.storage_key].big_endian and _UNTYPED in inspection.globals:
            continue
        found = next((each for each in left if each[0] == record.name and facts_of(each[2]) == facts_in(record)), None)
        if found is None:
            return f"{record.name!r} is nowhere in what torch reads"
        left = [each for each in left if each is not found]
        if not _same_bytes(record, storages[record.storage_key], data, found[2]):
            return f"{record.name!r} has other values in torch"
    return None


def _same_bytes(record: TensorRecord, storage: StorageRecord, data: bytes, tensor: torch.Tensor) -> bool:
    """Return whether the elements that the reader points at are those of the tensor, one by one."""
    if storage.file_offset is None or record.file_offset is None or not tensor.numel():
        return True
    width = tensor.element_size()
    if tensor.numel() > 1 << 12:
        return True
    if tensor.is_quantized and tensor.dtype in {torch.quint4x2, torch.quint2x4}:
        return True
    shape, stride = record.shape, record.stride
    whole = bytes(torch.empty(0, dtype=torch.uint8).set_(tensor.detach().untyped_storage()).numpy())
    for number in range(math.prod(shape)):
        at = 0
        for length, step in zip(reversed(shape), reversed(stride), strict=True):
            number, index = divmod(number, length)  # noqa: PLW2901 - the digits of the position
            at += index * step * width
        ours = data[record.file_offset + at : record.file_offset + at + width]
        theirs = tensor.storage_offset() * width + at
        if storage.big_endian:
            part = width // 2 if tensor.dtype.is_complex else width
            ours = b"".join(ours[x : x + part][::-1] for x in range(0, width, part))
        if ours != whole[theirs : theirs + width]:
            return False
    return True


def _safetensors_difference(inspection: Inspection, data: bytes) -> str | None:
    try:
        entries = dict(safetensors.deserialize(data))
    except (safetensors.SafetensorError, ValueError) as error:
        return f"safetensors does not read it: {error}"
    ours = {
        each.name: data[each.file_offset : each.file_offset + each.nbytes]
        for each in inspection.tensors
        if each.file_offset is not None
    }
    if ours != {name: bytes(entry["data"]) for name, entry in entries.items()}:
        return f"safetensors has {list(entries)}, the reader {list(ours)}, or other bytes"
    try:
        tensors = safetensors.torch.load(data)
    except (KeyError, ValueError, RuntimeError, AttributeError, safetensors.SafetensorError):
        return None  # torch lacks a dtype that the format has
    theirs = {name: (str(each.dtype)[6:], tuple(each.shape), each.stride()) for name, each in tensors.items()}
    found = {each.name: (each.dtype, each.shape, each.stride) for each in inspection.tensors}
    return None if theirs == found else f"safetensors has {theirs}, the reader {found}"


class _Inert:
    """Takes everything that a pickle does to a value."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "_Inert":
        return _Inert()

    def __setitem__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def add(self, _: Any) -> None: ...


class _Listening(pickle._Unpickler):  # type: ignore[name-defined]
    """Python's own machine over stand-ins; it keeps what it is asked for."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.mentioned: list[tuple[str, str]] = []

    def find_class(self, module: str, name: str) -> type[_Inert]:
        self.mentioned.append((module, name))
        return _Inert

    def persistent_load(self, _: Any) -> _Inert:
        return _Inert()

    def get_extension(self, code: int) -> None:
        self.mentioned.append(("copyreg", "_extension_registry"))
        self.append(_Inert())


def mentions(data: bytes, pickles: int = 1) -> list[tuple[str, str]]:
    """Return what Python's unpickler would look up in the first pickles of a stream, until it stops or fails."""
    file = io.BytesIO(data)
    found: list[tuple[str, str]] = []
    for _ in range(pickles):
        machine = _Listening(file)
        try:
            machine.load()
        except Exception:  # noqa: BLE001 - a forged pickle makes the unpickler fail in any way
            return found + machine.mentioned
        found += machine.mentioned
    return found
