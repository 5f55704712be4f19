"""Archive records that nobody knows: kept and reported, unless they are pickles or archives."""

import re
from collections.abc import Sequence

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.archive import Archive
from registry.formats.inspection import Inspection
from registry.formats.limits import Limits
from registry.formats.masked_pickles import LOOK_BYTES, Prober
from registry.formats.mentions import name_some

_ARCHIVE_STARTS = (
    b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18",
)  # fmt: skip
_NATIVE = re.compile(r".*\.(?:so|dll|dylib|o|cubin|hsaco)(?:\.\d+)*", re.IGNORECASE)
_TAR_MAGIC_AT = 257
_BATCH = 1000


def check_strangers(archive: Archive, names: Sequence[str], limits: Limits) -> None:
    """Refuse records that are pickles or archives under names that scanners do not look at (CVE-2025-1889).

    Raises:
        MalformedArtifactError: one is, or runs as a pickle farther than anybody looks.
        UnsafeArtifactError: one is a pickle that mentions something that does harm.
    """
    prober = Prober(limits)
    problem = ""
    for first in range(0, len(names), _BATCH):
        batch = names[first : first + _BATCH]
        for name, start in zip(batch, archive.read_starts(batch, LOOK_BYTES), strict=True):
            problem = problem or _problem(prober, archive, name, start)
    if problem:
        raise MalformedArtifactError(problem)


def _problem(prober: Prober, archive: Archive, name: str, start: bytes) -> str:
    """Return a sentence on what is wrong with a record."""
    if start.startswith(_ARCHIVE_STARTS) or start[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return f"The record {name!r} is an archive inside the archive."
    found = prober.look(start, archive.entries[name].size, lambda part: archive.read_starts([name], part.stop)[0])
    if found.harmful or found.tricks:
        harm = ", ".join([*found.harmful, *found.tricks][:10])
        raise UnsafeArtifactError(
            f"The record {name!r} is a second pickle, and would do harm: {harm}",
            globals=sorted(found.harmful),
        )
    if found.is_pickle:
        return f"The record {name!r} is a second pickle."
    return f"The record {name!r} runs as a pickle, and is too long to be looked through." if found.exhausted else ""


def note_native_code(inspection: Inspection, archive: Archive) -> None:
    """Add a sentence on libraries that the archive carries."""
    native = [name for name in archive.entries if _NATIVE.fullmatch(name)]
    if native:
        inspection.reasons.append(f"It carries native code: {name_some(native)}.")
