"""The zip format that torch.save writes since 1.6: `data.pkl`, one record a storage, a few small ones."""

import re

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.archive_storages import find_storages, is_big_endian
from registry.formats.inspection import Document, Inspection
from registry.formats.limits import DEFAULT_LIMITS, Limits
from registry.formats.machine import run
from registry.formats.pickled import Pickled, describe
from registry.formats.source import ByteRange, ByteSource
from registry.formats.storages import StorageTable
from registry.formats.strangers import check_strangers

_SMALL_RECORD_BYTES = 4096
_MAX_VERSION = 10
_LOCAL_HEADER = b"PK\x03\x04"
_OTHERS = frozenset({".data/extern_modules", "archive_format", "constants.pkl"})
"""Records of packages, exported programs and TorchScript, which keep storages elsewhere."""
_STORAGE = re.compile(r"data/[0-9]+")
_NUMBER = re.compile(rb"[0-9]{1,40}\n?")
_SMALL_RECORDS = frozenset(
    {
        "version",
        ".data/version",
        ".format_version",
        ".storage_alignment",
        ".data/serialization_id",
    }
)


def read_torch_zip(archive: Archive, source: ByteSource, limits: Limits, table: StorageTable | None = None) -> Document:
    """Return what a torch zip checkpoint holds.

    Args:
        archive: its archive, of which `data.pkl` and the small records are read.
        source: the whole file.
        limits: bounds on the work.
        table: for its storages; a new one by default.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    table = table or StorageTable()
    data = archive.read("data.pkl")
    result = run(data, limits, persistent_load=table.add)
    pickled = Pickled(result)
    if result.end != len(data):
        pickled.refuse("Bytes follow the end of the pickle.")
    try:
        _check_small_records(archive)
        storages = find_storages(archive, table, "data/{}")
        inspection = Inspection("torch-zip", "checkpoint", "tensors", source.size)
        known = {"data.pkl", "byteorder", *_SMALL_RECORDS, *(f"data/{table.own_key(key)}" for key in table.found)}
        inspection.unknown_records = [name for name in archive.entries if name not in known]
        check_strangers(archive, inspection.unknown_records, limits)
        return describe(inspection, pickled, storages, limits)
    except MalformedArtifactError as error:
        pickled.refuse_if_dangerous(error.detail)
        raise


def find_records(source: ByteSource, limits: Limits = DEFAULT_LIMITS) -> list[ByteRange] | None:
    """Return where a file of `torch.save` holds storages as they are, by its records alone; None for any other file.

    What its pickle makes of them is not looked at, which is most of the work.

    Raises:
        MalformedArtifactError: it is a zip archive that torch never writes.
    """
    (head,) = source.read_many([(0, min(len(_LOCAL_HEADER), source.size))])
    if head != _LOCAL_HEADER:
        return None
    archive = Archive.open(source, limits)
    if "data.pkl" not in archive.entries or not _OTHERS.isdisjoint(archive.entries):
        return None
    if is_big_endian(archive):
        return []
    places = (
        (archive.data_offset(each), each.size) for name, each in archive.entries.items() if _STORAGE.fullmatch(name)
    )
    return [(offset, size) for offset, size in places if offset is not None]


def _check_small_records(archive: Archive) -> None:
    """Check what torch writes beside the pickle."""
    texts = {name: archive.read(name, _SMALL_RECORD_BYTES) for name in _SMALL_RECORDS if name in archive.entries}
    for name, text in texts.items():
        if not _NUMBER.fullmatch(text):
            raise MalformedArtifactError(f"The record `{name}` is no number.")
    versions = [int(texts[name]) for name in ("version", ".data/version") if name in texts]
    if not versions or any(not 1 <= version <= _MAX_VERSION for version in versions):
        raise MalformedArtifactError("The archive has no record `version` that says 1 to 10.")
