"""`torch.export` (pt2) and `torch.package` archives: code around weights. They are classed, and their pickles run.

Their tensors are not listed; the file is kept and handed back as it is.
"""

import re
from collections.abc import Sequence

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.archive import Archive
from registry.formats.inspection import Document, Inspection
from registry.formats.limits import Limits
from registry.formats.machine import run
from registry.formats.nodes import PersistentRef
from registry.formats.pickled import Pickled
from registry.formats.source import ByteSource, BytesSource
from registry.formats.strangers import check_strangers
from registry.formats.torch_zip import read_torch_zip
from registry.formats.verdict import judge

_NO_TENSORS = "Its tensors are not listed: this version of Weighbridge does not read them from {}."
_NATIVE = re.compile(r".*\.(?:so|dll|dylib|o|cubin|hsaco)(?:\.\d+)*", re.IGNORECASE)
_EXPORT_DATA = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/.*|models/[^/]*\.json|"
    r"data/(?:weights|constants)/(?:(?:weight|tensor)_\d+|[^/]*\.json)"
)
_SMALL_BYTES = 64


def read_export(archive: Archive, source: ByteSource, limits: Limits) -> Document:
    """Return the class of what `torch.export.save` wrote; torch.save files inside it are read as well.

    Raises:
        MalformedArtifactError: it, or a file inside it, cannot be read strictly.
        UnsafeArtifactError: likewise, and something in it does harm.
    """
    if archive.read("archive_format", _SMALL_BYTES).strip() != b"pt2":
        raise MalformedArtifactError("The record `archive_format` does not say `pt2`.")
    inspection = Inspection("torch-export", "module", "code", source.size)
    inspection.reasons.append("It is a torch.export archive: its graph is code.")
    inspection.reasons.append(_NO_TENSORS.format("torch.export archives"))
    names = [name for name in archive.entries if not _EXPORT_DATA.fullmatch(name)]
    names += _pickled_weights(archive, [name for name in archive.entries if _EXPORT_DATA.fullmatch(name)])
    for name, start in zip(names, archive.read_starts(names, 4), strict=True):
        if start == b"PK\x03\x04":
            _read_nested(inspection, archive, name, limits)
        else:
            inspection.unknown_records.append(name)
    check_strangers(archive, inspection.unknown_records, limits)
    _note_native_code(inspection, archive)
    return Document(inspection)


def _pickled_weights(archive: Archive, names: Sequence[str]) -> list[str]:
    """Return the weights that are torch.save files themselves (`use_pickle`): they begin as archives do."""
    starts = archive.read_starts(names, 4)
    return [name for name, start in zip(names, starts, strict=True) if start == b"PK\x03\x04"]


def _read_nested(inspection: Inspection, archive: Archive, name: str, limits: Limits) -> None:
    """Read a torch.save file inside the archive, and take over its verdict."""
    nested = BytesSource(archive.read(name))
    try:
        found = read_torch_zip(Archive.open(nested, limits), nested, limits).inspection
    except UnsafeArtifactError:
        raise
    except MalformedArtifactError as error:
        raise MalformedArtifactError(f"The file {name!r} inside the archive is malformed: {error.detail}") from error
    inspection.globals = sorted({*inspection.globals, *found.globals})
    inspection.foreign_globals = sorted({*inspection.foreign_globals, *found.foreign_globals})
    if found.trust == "unsafe":
        inspection.trust = "unsafe"
        inspection.reasons += [f"In {name!r}: {reason}" for reason in found.reasons]


def read_package(archive: Archive, source: ByteSource, limits: Limits) -> Document:
    """Return the class of what `torch.package` wrote; the pickles in it are run on the machine.

    Raises:
        MalformedArtifactError: it, or a pickle in it, cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    pickles = [name for name in archive.entries if name.endswith(".pkl")]
    pickled = Pickled(*(run(archive.read(name), limits, persistent_load=PersistentRef) for name in pickles))
    verdict = judge(pickled.mentioned, pickled.calls, pickled.dangers, limits)
    inspection = Inspection("torch-package", "module", "code", source.size)
    inspection.globals, inspection.foreign_globals = verdict.globals, verdict.foreign_globals
    if verdict.trust == "unsafe":
        inspection.trust = "unsafe"
        inspection.reasons += verdict.reasons
    inspection.reasons.append("It is a torch.package archive: Python sources that run when it is imported.")
    inspection.reasons.append(_NO_TENSORS.format("torch.package archives"))
    _note_native_code(inspection, archive)
    return Document(inspection)


def _note_native_code(inspection: Inspection, archive: Archive) -> None:
    native = [name for name in archive.entries if _NATIVE.fullmatch(name)]
    if native:
        inspection.reasons.append(f"It carries native code: {', '.join(native[:10])}.")
