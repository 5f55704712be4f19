"""What `torch.save` writes of the state_dict of a module, written again from a manifest and compared with a head.

A pickle of these very bytes says what the manifest says, and nothing else: nobody needs to interpret it. Most
state_dicts are like that. Where a file holds anything else, or something else wrote it, the bytes are others, and the
pickle machine reads them.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count, islice
from typing import Any, Self, TypeVar, cast

from registry.formats.facts import count_without_zeros
from registry.formats.inert_names import DTYPE_BYTES, STORAGE_PAIRS
from registry.formats.inspection import Inspection, StorageRecord, TensorRecord
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.formats.tree import BUFFER_NAMES

ItemT = TypeVar("ItemT")

_BATCH = 1000
"""Pairs that Python's pickler sets at once."""
_INTEGERS = frozenset({int})
_BYTE, _TWO_BYTES, _FOUR_BYTES = 1 << 8, 1 << 16, 1 << 31
_SHORT_BYTES = 2
"""Of an opcode for the first slots of the memo."""
_ORDERED_DICT, _REBUILD = ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2")
_CLASSES = {
    dtype: pair
    for pair, dtype in STORAGE_PAIRS.items()
    if pair[0] == "torch" and dtype.startswith(("float", "bfloat", "int", "uint", "bool", "complex"))
}
_TUPLES = {1: b"\x85", 2: b"\x86", 3: b"\x87"}
_SHARED_LOCATION = "cpu"
"""torch has this text once; those of other devices it makes anew each time."""
_pack_opcode = struct.Struct("<cI").pack


class _OtherError(Exception):
    """The manifest has what is not written here, or the head has other bytes. Never leaves this module."""


class PlainPickle:
    """The pickle that follows from a manifest, as far as that says in which order it has what.

    Args:
        known: what the manifest says; it keeps every order but that of `_metadata`. Nothing of it is believed.
        limits: bounds on dimensions and elements.
    """

    def __init__(self, known: Inspection, limits: Limits = DEFAULT_LIMITS) -> None:
        self._versions = known.metadata.get("", {})
        self._written: _Writer | None = None
        is_single = len(known.metadata) == 1 and "" in known.metadata and known.kind == "state_dict"
        if is_single and known.trust == "tensors" and not (known.entries or known.parts or known.file_metadata):
            # A manifest may have values of other types than it should.
            with suppress(_OtherError, TypeError, AttributeError):
                self._written = _Writer(known.storages, limits).write(known.tensors)

    def match(self, head: bytes, start: int) -> dict[str, Any] | None:
        """Return `_metadata`, in its order, where a head holds this pickle; else None. That can be asked once.

        Args:
            head: the first bytes of a file.
            start: where its pickle starts.
        """
        written, self._written = self._written, None
        with suppress(_OtherError, TypeError, AttributeError):
            return None if written is None else written.compare(head, start, self._versions)
        return None


class _Writer:
    """Python's pickler with protocol 2, as far as a state_dict goes.

    Args:
        storages: those of the file.
        limits: bounds on dimensions and elements.
    """

    def __init__(self, storages: Sequence[StorageRecord], limits: Limits) -> None:
        self._head = b""
        self._position = 0
        self._pieces: list[bytes] = [b"\x80\x02"]
        self._storages = {each.key: each for each in storages if each.key.isascii() and each.key.isdecimal()}
        self._limits = limits
        self._used: set[str] = set()
        self._memo: dict[object, bytes] = {}
        self._put = _iter_puts().__next__
        self._tuples: dict[tuple[int, ...], bytes] = {}

    def write(self, tensors: Sequence[TensorRecord]) -> Self:
        """Write a state_dict with these tensors and nothing else, up to the versions of its modules.

        Raises:
            _OtherError: it is something else.
        """
        self._begin_ordered_dict()
        self._write_pairs(len(tensors), iter(tensors), self._write_tensor)
        if self._used != self._storages.keys():
            raise _OtherError
        self._pieces += (b"}", self._put())
        self._write_text("_metadata")
        self._begin_ordered_dict()
        return self

    def compare(self, head: bytes, start: int, versions: Mapping[str, Any]) -> dict[str, Any]:
        """Return the versions in the order of a head that goes on with them, after what was written.

        Raises:
            _OtherError: the head says something else.
        """
        self._head, self._position = head, start
        ordered: dict[str, Any] = {}
        self._write_pairs(len(versions), self._read_names(versions, ordered), self._write_version)
        self._pieces.append(b"sb.")
        self._compare()
        return ordered

    def _compare(self) -> None:
        """Compare what was written since the last time."""
        written = b"".join(self._pieces)
        if not self._head.startswith(written, self._position):
            raise _OtherError
        self._position += len(written)
        self._pieces.clear()

    def _read_names(self, versions: Mapping[str, Any], found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the names of the modules as the head has them, with what the manifest says of each; once each."""
        short = {get: text for text, get in self._memo.items() if isinstance(text, str) and len(text) <= 1}
        for _ in range(len(versions)):
            self._compare()
            head, start = self._head, self._position + 5
            name = short.get(head[self._position : self._position + 2])
            if head[self._position : self._position + 1] == b"X":
                name = head[start : start + int.from_bytes(head[start - 4 : start], "little")].decode(errors="replace")
            elif name is None:
                name = short.get(head[self._position : start])
            if name is None or name in found or name not in versions:
                raise _OtherError
            found[name] = versions[name]
            yield name, versions[name]

    def _begin_ordered_dict(self) -> None:
        self._pieces += (self._global(_ORDERED_DICT), b")R", self._put())

    def _write_pairs(self, size: int, items: Iterator[ItemT], write: Callable[[ItemT], None]) -> None:
        for start in range(0, size, _BATCH):
            is_single = size - start == 1
            self._pieces.append(b"" if is_single else b"(")
            for each in islice(items, _BATCH):
                write(each)
            self._pieces.append(b"s" if is_single else b"u")

    def _write_version(self, item: tuple[str, Any]) -> None:
        """Write the name of a module with `{"version": 1}`."""
        name, members = item
        if type(members) is not dict or [*cast("dict[str, Any]", members)] != ["version"]:
            raise _OtherError
        self._write_text(name)
        self._pieces += (b"}", self._put())
        self._write_text("version", is_shared=True)
        self._pieces += (_integer(members["version"]), b"s")

    def _write_tensor(self, tensor: TensorRecord) -> None:
        storage = self._check(tensor)
        pieces, put = self._pieces, self._put
        self._write_text(tensor.name)
        pieces.append(self._global(_REBUILD) + b"((")
        self._write_text("storage", is_shared=True)
        pieces.append(self._global(_CLASSES[tensor.dtype]))
        self._write_key(storage.key)
        self._write_text(storage.location, is_shared=storage.location == _SHARED_LOCATION)
        elements, offset = storage.nbytes // DTYPE_BYTES[tensor.dtype], tensor.storage_offset
        pieces += (_integer(elements), b"t", put(), b"Q", b"K\0" if offset == 0 else _integer(offset))
        for sizes in (tensor.shape, tensor.stride):
            pieces += (self._tuple(sizes), put()) if sizes else (b")",)
        pieces.append(b"\x88" if tensor.requires_grad else b"\x89")
        pieces += (self._global(_ORDERED_DICT), b")R", put(), b"t", put(), b"R", put())

    def _check(self, tensor: TensorRecord) -> StorageRecord:
        """Return the storage of a tensor of which everything follows from what is written.

        Raises:
            _OtherError: it is another one.
        """
        storage = self._storages.get(tensor.storage_key or "")
        name, dtype, shape, start = tensor.name, tensor.dtype, tensor.shape, tensor.storage_offset
        itemsize = DTYPE_BYTES[dtype] if dtype in _CLASSES else 0
        if storage is None or not itemsize or storage.nbytes % itemsize or type(tensor.requires_grad) is not bool:
            raise _OtherError
        if not _INTEGERS.issuperset(map(type, (*shape, *tensor.stride, start))):
            raise _OtherError
        position = None if storage.file_offset is None else storage.file_offset + start * itemsize
        plain = TensorRecord(
            name,
            (name,),
            None,
            dtype,
            shape,
            tensor.stride,
            start,
            storage.key,
            position,
            math.prod(shape) * itemsize,
            "buffer" if name.rpartition(".")[2] in BUFFER_NAMES else "unknown",
            tensor.requires_grad,
            storage.location,
        )
        if tensor != plain or (tensor.requires_grad and not dtype.startswith(("float", "bfloat", "complex"))):
            raise _OtherError
        self._check_reach(tensor, storage.nbytes // itemsize)
        self._used.add(storage.key)
        return storage

    def _check_reach(self, tensor: TensorRecord, available: int) -> None:
        """Refuse a view that is none of its storage, which has so many elements."""
        shape, reach = tensor.shape, tensor.storage_offset
        if len(shape) != len(tensor.stride) or len(shape) > self._limits.dimensions:
            raise _OtherError
        for length, step in zip(shape, tensor.stride, strict=True):
            reach += (length - 1) * step
        elements = math.prod(shape)
        if (elements and reach >= available) or (elements or count_without_zeros(shape)) >= self._limits.elements:
            raise _OtherError

    def _write_key(self, key: str) -> None:
        """Write the key of a storage, a text that all its tensors share and nothing else."""
        known = self._memo.get((key,))
        if known is None:
            put = self._put()
            self._memo[key,] = _get(put)
            known = _pack_opcode(b"X", len(key)) + key.encode() + put
        self._pieces.append(known)

    def _write_text(self, text: str, *, is_shared: bool = False) -> None:
        """Write a text; Python has those of at most one character once."""
        is_shared |= len(text) <= 1
        known = self._memo.get(text) if is_shared else None
        if known is not None:
            self._pieces.append(known)
            return
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise _OtherError from None
        self._pieces += (_pack_opcode(b"X", len(data)), data, self._put())
        if is_shared:
            self._memo[text] = _get(self._pieces[-1])

    def _global(self, pair: tuple[str, str]) -> bytes:
        known = self._memo.get(pair)
        if known is not None:
            return known
        put = self._put()
        self._memo[pair] = _get(put)
        return f"c{pair[0]}\n{pair[1]}\n".encode() + put

    def _tuple(self, sizes: tuple[int, ...]) -> bytes:
        known = self._tuples.get(sizes)
        if known is None:
            numbers = b"".join(map(_integer, sizes))
            known = numbers + _TUPLES[len(sizes)] if len(sizes) in _TUPLES else b"(" + numbers + b"t"
            self._tuples[sizes] = known
        return known


def _iter_puts() -> Iterator[bytes]:
    """Yield what puts one value after the other into the memo."""
    for slot in range(_BYTE):
        yield bytes((0x71, slot))
    for slot in count(_BYTE):
        yield _pack_opcode(b"r", slot)


def _get(put: bytes) -> bytes:
    """Return what gets the value that was put there."""
    return (b"h" if len(put) == _SHORT_BYTES else b"j") + put[1:]


def _integer(value: Any) -> bytes:
    if type(value) is not int or not 0 <= value < _FOUR_BYTES:
        raise _OtherError
    if value < _BYTE:
        return bytes((0x4B, value))
    return b"M" + value.to_bytes(2, "little") if value < _TWO_BYTES else _pack_opcode(b"J", value)
