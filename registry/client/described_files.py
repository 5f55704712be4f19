"""What a manifest says of a weight file, for whoever wants some of its tensors: which names need which storages."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.client.storage_index import Held
from registry.formats.head import find_head
from registry.formats.inspection import Inspection, PathKey, StorageRecord, TensorRecord
from registry.formats.reader import uncollected
from registry.formats.source import ByteRange
from registry.formats.wire import inspection_from_json


@dataclass(frozen=True, slots=True)
class DescribedFile:
    """A weight file that can be taken tensor by tensor.

    Attributes:
        inspection: what it holds.
        head: where its structure lies.
        digests: of its storages (`blake3:…`), by key; None where the file holds them otherwise than torch does.
    """

    inspection: Inspection
    head: ByteRange
    digests: Mapping[str, str | None]

    @classmethod
    @uncollected()
    def find(cls, manifest: Mapping[str, Any]) -> "DescribedFile | None":
        """Return what a manifest says; None where the file can only be taken as a whole."""
        inspection = inspection_from_json(dict(manifest))
        head = find_head(inspection)
        if head is None:
            return None
        return cls(inspection, head, {each["key"]: each.get("digest") for each in manifest["storages"]})

    @property
    def storages(self) -> list[ByteRange]:
        """Where the storages lie in the file."""
        return [(each.file_offset, each.nbytes) for each in self.inspection.storages if each.file_offset is not None]

    def find_names(self, part: str | None) -> dict[str, set[str]] | None:
        """Return what a state_dict inside holds, with the keys of the storages that each name needs.

        None where tensors lie deeper than under its keys, in values that only the file itself describes.
        """
        needed: dict[str, set[str]] = {}
        for tensor in self.inspection.tensors:
            if tensor.part == part:
                name = _find_key(tensor.path, part)
                if name is None:
                    return None
                needed.setdefault(name, set()).update(_storage_keys(tensor))
        for entry in self.inspection.entries:
            name = _find_key(entry.path, part) if entry.part == part else None
            if name is not None:
                needed.setdefault(name, set())
        return needed

    def has_opaque(self, part: str | None, names: Collection[str]) -> bool:
        """Return whether one of these names of a state_dict is a value that the manifest does not keep."""
        opaque = (each for each in self.inspection.entries if each.value is None and each.type_name != "None")
        return any(each.part == part and _find_key(each.path, part) in names for each in opaque)

    def find_held(self, keys: Collection[str]) -> dict[str, Held] | None:
        """Return storages by key, empty ones left out; None where one of them has no digest of its own."""
        held: dict[str, Held] = {}
        for each in self.inspection.storages:
            if each.key in keys and each.nbytes:
                found = self._hold(each)
                if found is None:
                    return None
                held[each.key] = found
        return held

    def _hold(self, storage: StorageRecord) -> Held | None:
        digest = self.digests.get(storage.key)
        if digest is None or storage.file_offset is None or storage.big_endian:
            return None
        return Held(digest, storage.file_offset, storage.nbytes)


def _find_key(path: Sequence[PathKey], part: str | None) -> str | None:
    """Return the key of the state_dict under which something lies; None for what lies deeper."""
    *outer, key = map(str, path) if path else ("",)
    return key if ".".join(outer) == (part or "") and (part is not None or not outer) else None


def _storage_keys(tensor: TensorRecord) -> Iterator[str]:
    if tensor.storage_key is not None:
        yield tensor.storage_key
    for each in tensor.components.values():
        yield from _storage_keys(each)
