"""The storages of a weight file as private copy-on-write memory: mapped where possible, else copied."""

import ctypes
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from registry.errors import InvalidRequestError, MalformedArtifactError, UnsupportedValueError
from registry.formats.archive import Archive, Entry
from registry.formats.inspection import Inspection, StorageRecord, TensorRecord
from registry.formats.limits import DEFAULT_LIMITS
from registry.formats.source import FileSource
from registry.pieces import Place, WeightFile

_PIECE_BYTES = 1 << 20
_COPIED_BYTES = 1 << 20
"""Equal storages of at most this are copies of one; more of them than that would need maps, of which there are few."""
_STRICTEST_ALIGNMENT_BYTES = 8
"""The most that any dtype asks for: `complex128` is a pair of float64."""


def find_dtype(name: str) -> torch.dtype:
    """Return the dtype called `name` (`float32`).

    Raises:
        UnsupportedValueError: this PyTorch has none of that name.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise UnsupportedValueError(f"PyTorch {torch.__version__} has no dtype {name!r}. A newer PyTorch may have it.")
    return found


def find_device(device: str | torch.device) -> torch.device:
    """Return a device that works here.

    Raises:
        InvalidRequestError: there is none of that name, or it cannot be used on this machine.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidRequestError(
            f'The device {str(device)!r} cannot be used here: {reason} Use device="cpu".'
        ) from error
    return found


class FileStorages:
    """The storages of one file, each made once, so that tensors that shared memory share it again.

    Training on them in place changes private pages, never the file. The file may be read-only.

    Args:
        file: a regular file, or where its storages lie in others; they stay in use as long as a tensor of them lives,
            even when they are unlinked.
        inspection: what the reader says of the file.
        device: where the storages shall lie; other than on the CPU they are copied one by one.
    """

    def __init__(self, file: WeightFile, inspection: Inspection, device: torch.device) -> None:
        self._path = file if isinstance(file, Path) else None
        self._places = _find_places(file, inspection)
        self._records = {record.key: record for record in inspection.storages}
        self._viewing = {record.storage_key: record.dtype for record in _iter_viewing(inspection.tensors)}
        self._aligned = inspection.format == "safetensors"
        self._device = device
        self._entries: dict[str, Entry] | None = None
        self._maps: dict[Path, Any] = {}
        self._used: set[Place] = set()
        self._made: dict[str, torch.UntypedStorage] = {}
        self._cast: dict[tuple[str, torch.dtype, torch.dtype], torch.UntypedStorage] = {}

    @property
    def device(self) -> torch.device:
        """Where the storages lie."""
        return self._device

    def get(self, key: str) -> torch.UntypedStorage:
        """Return the storage that the file calls `key`.

        Raises:
            MalformedArtifactError: the file has no such storage, or became shorter since it was read.
        """
        made = self._made.get(key)
        if made is None:
            record = self._records.get(key)
            if record is None:
                raise MalformedArtifactError(f"The file refers to a storage {key!r} that it does not hold.")
            made = self._made[key] = self._make(record)
        return made

    def get_cast(self, key: str, source: torch.dtype, target: torch.dtype) -> torch.UntypedStorage:
        """Return a copy of the storage with each of its `source` elements converted to `target`; made once.

        Raises:
            UnsupportedValueError: PyTorch cannot convert one to the other.
        """
        if (key, source, target) not in self._cast:
            storage = self.get(key)
            count = storage.nbytes() // source.itemsize
            flat = torch.empty(0, dtype=source, device=self._device).set_(storage, 0, (count,), (1,))
            try:
                self._cast[key, source, target] = flat.to(target).untyped_storage()
            except (RuntimeError, NotImplementedError) as error:
                raise UnsupportedValueError(f"{source} values cannot be converted to {target}: {error}") from error
        return self._cast[key, source, target]

    def _make(self, record: StorageRecord) -> torch.UntypedStorage:
        if self._device.type == "meta":
            return torch.UntypedStorage(record.nbytes, device="meta")
        storage = self._load(record)
        if record.big_endian:
            cast("Any", storage).byteswap(find_dtype(self._viewing.get(record.key, "uint8")))
        if self._device.type == "cpu":
            return storage
        return torch.empty(0, dtype=torch.uint8).set_(storage).to(self._device).untyped_storage()

    def _load(self, record: StorageRecord) -> torch.UntypedStorage:
        if not record.nbytes:
            return torch.UntypedStorage(0)
        place = self._places.get(record.key)
        if place is None:
            return self._inflate(record)
        is_used = place in self._used
        is_copied = (is_used and record.nbytes <= _COPIED_BYTES) or not self._is_aligned(record.key, place.offset)
        part: Any = self._map(place, anew=is_used and not is_copied)[place.offset : place.offset + record.nbytes]
        if is_copied:
            return part.clone()
        self._used.add(place)
        return part

    def _is_aligned(self, key: str, offset: int) -> bool:
        if offset % _STRICTEST_ALIGNMENT_BYTES == 0:
            return True
        # torch's archives are aligned as a whole; a safetensors file only as well as its writer did it.
        return self._aligned and offset % find_dtype(self._viewing[key]).itemsize == 0

    def _map(self, place: Place, *, anew: bool) -> Any:
        """Return a map of the whole file; another one than before where two storages have one place."""
        if anew or place.file not in self._maps:
            if place.file.stat().st_size != place.file_bytes:
                raise MalformedArtifactError(f"{place.file.name} changed its size while it was read.")
            untyped: Any = torch.UntypedStorage
            self._maps[place.file] = untyped.from_file(str(place.file), shared=False, nbytes=place.file_bytes)
        return self._maps[place.file]

    def _inflate(self, record: StorageRecord) -> torch.UntypedStorage:
        if self._path is None:
            raise MalformedArtifactError(f"The bytes of the storage {record.key!r} are not at hand.")
        storage = torch.UntypedStorage(record.nbytes)
        filled = 0
        with FileSource(self._path) as source:
            for piece in self._iter_inflated(source, record):
                if filled + len(piece) > record.nbytes:
                    break
                ctypes.memmove(storage.data_ptr() + filled, piece, len(piece))
                filled += len(piece)
            else:
                if filled == record.nbytes:
                    return storage
        raise MalformedArtifactError(f"The record {record.record!r} does not inflate to {record.nbytes} bytes.")

    def _iter_inflated(self, source: FileSource, record: StorageRecord) -> Iterator[bytes]:
        if record.record is None:
            raise UnsupportedValueError(
                f"The storage {record.key!r} lies compressed inside a file inside the archive. "
                "Unpack the archive, and pack it again without compression."
            )
        if self._entries is None:
            self._entries = {each.name: each for each in Archive.open(source, DEFAULT_LIMITS).entries.values()}
        entry = self._entries[record.record]
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        for start in range(0, entry.compressed_size, _PIECE_BYTES):
            length = min(_PIECE_BYTES, entry.compressed_size - start)
            (packed,) = source.read_many([(entry.data_offset + start, length)])
            while packed:
                yield inflater.decompress(packed, _PIECE_BYTES)
                packed = inflater.unconsumed_tail
        yield inflater.flush()


def _find_places(file: WeightFile, inspection: Inspection) -> Mapping[str, Place]:
    """Return where the uncompressed storages lie."""
    if not isinstance(file, Path):
        return file.places
    return {
        each.key: Place(file, each.file_offset, inspection.size)
        for each in inspection.storages
        if each.file_offset is not None
    }


def _iter_viewing(tensors: Iterable[TensorRecord]) -> Iterator[TensorRecord]:
    for tensor in tensors:
        yield tensor
        yield from tensor.components.values()
