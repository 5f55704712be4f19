"""Files of torch.save inside an archive: read as files of their own, and told in terms of the file around them."""

from typing import Any

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.inspection import Document, Inspection, TensorRecord
from registry.formats.limits import Limits
from registry.formats.source import ByteSource, BytesSource, PartSource
from registry.formats.storages import StorageTable
from registry.formats.torch_zip import read_torch_zip

_ZIP = b"PK\x03\x04"


def find_archives(archive: Archive, names: list[str]) -> list[str]:
    """Return those records that are archives themselves."""
    return [name for name, start in zip(names, archive.read_starts(names, len(_ZIP)), strict=True) if start == _ZIP]


def read_nested(archive: Archive, name: str, source: ByteSource, limits: Limits) -> Document:
    """Return what a torch.save file inside the archive holds.

    Its storages have keys that begin with the name of the record, and offsets in the whole file.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    entry = archive.entries[name]
    start = archive.data_offset(entry)
    own: ByteSource
    own = BytesSource(archive.read(name)) if start is None else PartSource(source, (start, entry.size))
    try:
        document = read_torch_zip(Archive.open(own, limits), own, limits, StorageTable(f"{name}/"))
    except MalformedArtifactError as error:
        raise MalformedArtifactError(f"The file {name!r} inside the archive is malformed: {error.detail}") from error
    inspection = document.inspection
    inspection.storages = [
        each._replace(file_offset=_moved(each.file_offset, start), record=None) for each in inspection.storages
    ]
    inspection.tensors = [_moved_tensor(each, start) for each in inspection.tensors]
    return document


def take_over(inspection: Inspection, found: Any, name: str) -> None:
    """Add what a pickle or a file inside an archive refers to, and its verdict, to that of the archive.

    Args:
        inspection: of the archive.
        found: the `Inspection` or `Verdict` of the inner one.
        name: of its record.
    """
    inspection.globals = sorted({*inspection.globals, *found.globals})
    inspection.foreign_globals = sorted({*inspection.foreign_globals, *found.foreign_globals})
    if found.trust == "unsafe":
        inspection.trust = "unsafe"
        inspection.reasons += [f"In {name!r}: {reason}" for reason in found.reasons]


def _moved(offset: int | None, start: int | None) -> int | None:
    return None if offset is None or start is None else start + offset


def _moved_tensor(tensor: TensorRecord, start: int | None) -> TensorRecord:
    components = {name: _moved_tensor(each, start) for name, each in tensor.components.items()}
    return tensor._replace(file_offset=_moved(tensor.file_offset, start), components=components)
