"""The tensor manifest: what is logically in a weights artifact. Immutable, canonical, stored under its digest.

It never says where bytes live. It is the JSON of an `Inspection` with the digests that the publishing pass computed:

- every storage has `digest`, BLAKE3 over its little-endian bytes; null where the file holds them otherwise
  (compressed, big-endian);
- every contiguous tensor has `digest`, BLAKE3 over its row-major bytes; other views name their storage's digest with
  offset and stride.
"""

import json
from collections.abc import Iterator
from typing import Any

from registry.digest import StreamDigests, sha256_digest
from registry.formats.inspection import Inspection, StorageRecord, TensorRecord
from registry.formats.wire import inspection_to_json

MANIFEST_VERSION = 1


def is_contiguous(tensor: TensorRecord) -> bool:
    """Return whether the values lie in row-major order without gaps; sizes of 1 and empty tensors do not count."""
    if tensor.layout != "strided":
        return False
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if size == 0:
            return True
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _storage_span(storage: StorageRecord) -> tuple[int, int] | None:
    if storage.file_offset is None or storage.big_endian:
        return None
    return storage.file_offset, storage.nbytes


def iter_digested_ranges(inspection: Inspection) -> Iterator[tuple[int, int]]:
    """Yield the offset and length of every byte range of the file whose BLAKE3 the manifest carries."""
    swapped = {storage.key for storage in inspection.storages if storage.big_endian}
    for storage in inspection.storages:
        span = _storage_span(storage)
        if span is not None:
            yield span
    for tensor in inspection.tensors:
        if tensor.file_offset is not None and tensor.storage_key not in swapped and is_contiguous(tensor):
            yield tensor.file_offset, tensor.nbytes


def build_manifest(inspection: Inspection, digests: StreamDigests) -> dict[str, Any]:
    """Return the manifest of a file that was inspected and then read once through `digests`."""
    document = inspection_to_json(inspection)
    spans = {storage.key: _storage_span(storage) for storage in inspection.storages}
    for storage, described in zip(inspection.storages, document["storages"], strict=True):
        span = spans[storage.key]
        described["digest"] = digests.find_range(*span) if span else None
    for tensor, described in zip(inspection.tensors, document["tensors"], strict=True):
        digested = (
            tensor.file_offset is not None
            and tensor.storage_key is not None
            and spans.get(tensor.storage_key) is not None
            and is_contiguous(tensor)
        )
        described["digest"] = digests.find_range(tensor.file_offset or 0, tensor.nbytes) if digested else None
    return {"manifest_version": MANIFEST_VERSION, **document}


def encode_manifest(manifest: dict[str, Any]) -> tuple[str, bytes]:
    """Return the manifest's digest and its canonical bytes: JSON, sorted keys, no spaces, ASCII."""
    data = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    return sha256_digest(data), data
