"""Archive records that nobody knows: kept and reported, unless they are pickles or archives."""

import re
from collections.abc import Sequence

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.inspection import Inspection
from registry.formats.limits import Limits
from registry.formats.machine import refuse_if_dangerous, run_prefix

_LOOK_BYTES = 64 << 10
_ARCHIVE_STARTS = (
    b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18",
)  # fmt: skip
_NATIVE = re.compile(r".*\.(?:so|dll|dylib|o|cubin|hsaco)(?:\.\d+)*", re.IGNORECASE)
_TAR_MAGIC_AT = 257
_PROTO = 0x80
_HIGHEST_PROTOCOL = 5


def check_strangers(archive: Archive, names: Sequence[str], limits: Limits) -> None:
    """Refuse records that are pickles or archives under names that scanners do not look at (CVE-2025-1889).

    Raises:
        MalformedArtifactError: one is.
        UnsafeArtifactError: one is a pickle that mentions something that does harm.
    """
    for name, start in zip(names, archive.read_starts(names, _LOOK_BYTES), strict=True):
        if start.startswith(_ARCHIVE_STARTS) or start[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
            raise MalformedArtifactError(f"The record {name!r} is an archive inside the archive.")
        if looks_like_pickle(start, limits):
            raise MalformedArtifactError(f"The record {name!r} is a second pickle.")


def says_pickle(start: bytes) -> bool:
    """Return whether bytes begin as pickles of protocol 0 to 5 do that say so."""
    return len(start) > 1 and start[0] == _PROTO and start[1] <= _HIGHEST_PROTOCOL


def looks_like_pickle(start: bytes, limits: Limits) -> bool:
    """Return whether bytes are a pickle: they say so (protocol 2 and later), or run to a STOP past a global.

    Raises:
        UnsafeArtifactError: they are, and mention something that does harm.
    """
    says_so = says_pickle(start)
    try:
        result = run_prefix(start, limits, persistent_load=lambda _: None)
    except MalformedArtifactError:
        return says_so
    if result is None:
        return says_so
    refuse_if_dangerous(result.globals, result.dangers, "a record that should be data is a pickle")
    return says_so or bool(result.globals)


def note_native_code(inspection: Inspection, archive: Archive) -> None:
    """Add a sentence on libraries that the archive carries."""
    native = [name for name in archive.entries if _NATIVE.fullmatch(name)]
    if native:
        inspection.reasons.append(f"It carries native code: {', '.join(native[:10])}.")
