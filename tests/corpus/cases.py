"""What a file of the corpus is: how to make it, and the one right answer to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.inspection import Inspection
from registry.formats.reader import read
from registry.formats.source import BytesSource

Verdict = Literal["tensors", "code", "unsafe", "malformed_artifact"]


@dataclass(frozen=True, slots=True)
class Case:
    """One file of the corpus.

    Attributes:
        name: the advisory's number or what the file is, and its container; unique.
        verdict: what the reader must answer.
        build: makes the file; takes the marker's path, which a payload would touch.
        expected: makes the value whose tensors the file holds, as torch has them; None when nobody asks for them.
        data_only: it is `code` of data classes alone, and must say so.
    """

    name: str
    verdict: Verdict
    build: Callable[[str], bytes]
    expected: Callable[[], Any] | None = None
    data_only: bool = False


def answer(data: bytes) -> tuple[Verdict, Inspection | None, str]:
    """Return what the reader makes of a file: the verdict, its report when it gives one, and the reasons."""
    try:
        inspection = read(BytesSource(data)).inspection
    except UnsafeArtifactError as error:
        return "unsafe", None, str(error)
    except MalformedArtifactError as error:
        return "malformed_artifact", None, str(error)
    return inspection.trust, inspection, " ".join(inspection.reasons)
