"""What is in a weight file for Python's own readers of zip and tar files, for ours to be compared with."""

import struct
import tarfile
import zipfile
from dataclasses import dataclass, field
from io import BytesIO

from registry.formats.inspection import Inspection

_BROKEN = (zipfile.BadZipFile, NotImplementedError, ValueError)
"""Python's zipfile is stricter than it need be in things that do not matter, such as odd version numbers."""


@dataclass(slots=True)
class Contents:
    """What is in a file.

    Attributes:
        pickles: those that are loaded with it.
        in_each: how many pickles stand one after the other in each of them.
        lie: why readers of zip files could see another file than ours: the rules of its container, told once more.
    """

    pickles: list[bytes] = field(default_factory=list[bytes])
    in_each: int = 1
    lie: str | None = None


def contents(inspection: Inspection, data: bytes) -> Contents:
    """Return what Python's readers find in a file that the reader gave a verdict on."""
    if inspection.format == "torch-legacy":
        return Contents([data], 5)
    if inspection.format == "torch-tar":
        return _in_tar(data)
    return _in_zip(inspection, data) if data.startswith(b"PK") else Contents()


def _in_tar(data: bytes) -> Contents:
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        files = [archive.extractfile(name) for name in ("sys_info", "pickle")]
    return Contents([file.read() for file in files if file is not None])


def _in_zip(inspection: Inspection, data: bytes) -> Contents:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
            lie = _lie(entries, data)
            pickles = [_content(archive, each) for each in entries if _is_loaded(inspection.format, each.filename)]
    except _BROKEN:
        return Contents()
    return Contents([each for each in pickles if each is not None], lie=lie)


def _is_loaded(form: str, name: str) -> bool:
    name = name.partition("/")[2]
    if form == "torch-package":
        return name.endswith(".pkl") and not name.startswith(".data/")
    if form == "torch-export":
        return name.startswith("data/constants/opaque_obj_")
    return name == "data.pkl" or (form == "torchscript" and name == "constants.pkl")


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | None:
    entry.CRC = None  # type: ignore[assignment] - a wrong one is no evidence of anything
    try:
        return archive.read(entry)
    except _BROKEN:
        return None


def _lie(entries: list[zipfile.ZipInfo], data: bytes) -> str | None:
    names = {entry.orig_filename.casefold() for entry in entries}
    if len(names) != len(entries) or len({name.partition("/")[0] for name in names}) != 1:
        return "two records have one name, or there are two roots"
    for entry in entries:
        local = struct.unpack_from("<4s5H3I2H", data, entry.header_offset)
        start = entry.header_offset + 30
        name = data[start : start + local[9]].decode("utf-8" if local[2] & 0x800 else "cp437", "replace")
        if (name, local[2], local[3]) != (entry.orig_filename, entry.flag_bits, entry.compress_type):
            return f"the local header of {entry.orig_filename!r} says something else"
    return None
