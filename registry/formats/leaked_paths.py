"""Absolute paths of the saving machine that compiled programs carry: nothing harmful, but perhaps nobody's business."""

import re
from collections.abc import Iterable, Sequence

from registry.formats.archive import Archive
from registry.formats.inspection import Inspection

_RECORDS = 64
_LOOK_BYTES = 256 << 10
_HITS = 64
_PATH_BYTES = 300
_ENDING = b".py"
_PATH = re.compile(rb"(?:(?<!\w)[A-Za-z]:[\\/]|(?<![\w.:/-])/)[^\s/][^\x00-\x1f\"'<>|*?]*\Z")


def note_paths(inspection: Inspection, archive: Archive, names: Sequence[str]) -> None:
    """Add a sentence when one of the records names a Python file by its absolute path.

    Looked at are the first 256 KiB of 64 records: this is to warn who uploads, and no promise.
    """
    if has_paths(archive.read_starts(names[:_RECORDS], _LOOK_BYTES)):
        inspection.reasons.append(
            "It carries absolute paths of the machine that saved it, and lines of its source; its state_dict would not."
        )


def has_paths(texts: Iterable[bytes]) -> bool:
    """Return whether one of the texts holds the absolute path of a Python file."""
    return any(_has_path(text) for text in texts)


def _has_path(text: bytes) -> bool:
    position = text.find(_ENDING)
    for _ in range(_HITS):
        if position < 0:
            return False
        if _PATH.search(text[max(0, position - _PATH_BYTES) : position]):
            return True
        position = text.find(_ENDING, position + 1)
    return False
