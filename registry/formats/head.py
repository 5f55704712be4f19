"""Reading a weight file by its first bytes alone, where a manifest says what it holds: the structure, no storage.

`torch.save` writes the pickle before the storages, and safetensors its header. What they say is compared with the
manifest, so a head with other bytes than those that were published is not believed. Where they are the bytes that
follow from the manifest, there is nothing to interpret.
"""

from collections.abc import Sequence
from dataclasses import replace

from registry.errors import MalformedArtifactError
from registry.formats.inspection import Document, Inspection
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.formats.machine import run_prefix
from registry.formats.pickled import Pickled, describe
from registry.formats.plain_pickle import PlainPickle
from registry.formats.reader import uncollected
from registry.formats.safetensors import read_safetensors
from registry.formats.source import ByteRange, check_ranges
from registry.formats.storages import StorageTable, storage_bytes

_LOCAL_HEADER_BYTES = 30
_LOCAL_HEADER = b"PK\x03\x04"
_STORED = b"\0\0"


def find_head(inspection: Inspection) -> ByteRange | None:
    """Return where a file's structure lies; None when it is not apart from the storages, or is none of tensors alone.

    Args:
        inspection: of the whole file.
    """
    if inspection.trust != "tensors" or inspection.format not in {"torch-zip", "safetensors"}:
        return None
    offsets = [each.file_offset for each in inspection.storages if each.nbytes and each.file_offset is not None]
    return (0, min(offsets)) if offsets else None


@uncollected()
def read_head(
    head: bytes, known: Inspection, limits: Limits = DEFAULT_LIMITS, *, plain: PlainPickle | None = None
) -> Document:
    """Return what a file holds by its first bytes.

    Args:
        head: the bytes that `find_head` names.
        known: what its manifest says.
        limits: bounds on the work.
        plain: what follows from that, where it was made already.

    Raises:
        MalformedArtifactError: it cannot be read so, or says something else than the manifest.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    if known.format == "safetensors":
        document = read_safetensors(_Head(head, known.size), limits)
    else:
        start = _find_pickle(head)
        versions = (plain or PlainPickle(known, limits)).match(head, start)
        if versions is not None:
            return Document(replace(known, metadata={"": versions}), is_plain=True)
        document = _read_zip(head, start, known, limits)
    found = document.inspection
    for member in ("kind", "trust", "tensors", "entries", "parts", "metadata", "file_metadata"):
        if getattr(found, member) != getattr(known, member):
            raise MalformedArtifactError(f"The head of the file and its manifest name other {member}.")
    return document


class _Head:
    """The first bytes of a longer file."""

    def __init__(self, head: bytes, size: int) -> None:
        self._head = head
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        check_ranges(ranges, len(self._head))
        return [self._head[offset : offset + length] for offset, length in ranges]


def _read_zip(head: bytes, start: int, known: Inspection, limits: Limits) -> Document:
    table = StorageTable()
    result = run_prefix(head, limits, start=start, persistent_load=table.add, last=True)
    if result is None:
        raise AssertionError
    storages = {each.key: each for each in known.storages}
    sizes = {key: storage_bytes(ref) for key, ref in table.found.items()}
    if sizes != {key: each.nbytes for key, each in storages.items()}:
        raise MalformedArtifactError("The head of the file and its manifest name other storages.")
    inspection = Inspection(known.format, "checkpoint", "tensors", known.size)
    return describe(inspection, Pickled(result), storages, limits)


def _find_pickle(head: bytes) -> int:
    """Return where the pickle starts: it is the first record, and not compressed (PKWARE's APPNOTE, 4.3.7)."""
    lengths = head[26:_LOCAL_HEADER_BYTES]
    name_bytes, extra_bytes = int.from_bytes(lengths[:2], "little"), int.from_bytes(lengths[2:], "little")
    name = head[_LOCAL_HEADER_BYTES : _LOCAL_HEADER_BYTES + name_bytes]
    if head[:4] != _LOCAL_HEADER or head[8:10] != _STORED or name.partition(b"/")[2] != b"data.pkl":
        raise MalformedArtifactError("The file does not begin with its pickle.")
    return _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
