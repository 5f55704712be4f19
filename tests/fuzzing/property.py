"""The property of issue 4, of one file: the reader ends with an answer, nothing runs, and torch sees the same."""

import struct
import time
import zipfile
from dataclasses import dataclass
from io import BytesIO
from traceback import extract_tb

from fuzzing import pickle_mutations, truth
from fuzzing.watch import Watch
from registry.errors import ArtifactError, MalformedArtifactError, UnsafeArtifactError
from registry.formats.inspection import Inspection
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.formats.wire import inspection_from_json, inspection_to_json

MOST_SECONDS = 10.0
_HARMFUL_MODULES = frozenset({"os", "posix", "nt", "subprocess", "commands"})
_HARMFUL = frozenset({("builtins", "eval"), ("builtins", "exec"), ("torch", "load")})
_CONTAINER_STEPS = frozenset(
    {
        ("archive", "open"),
        ("tar_members", "read_members"),
        ("safetensors", "_read_header"),
        ("detection", "explain_unknown"),
    }
)
_LEGACY_PREFIXES = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02J\xe9\x03\0\0.",
)
_WATCH = Watch()

for _codec in ("utf-8", "ascii", "latin-1", "raw-unicode-escape"):
    "".encode(_codec)  # imported here, and not by the first file that holds such a text


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Attributes:
        verdict: `tensors`, `code`, `unsafe`, `malformed_artifact`, or `crash`.
        past: whether the container was good, and the reader got to what is in it.
        finding: what must not be, None when all is well.
        compared: torch or safetensors was asked, and said the same.
        answer: what the reader said in words.
    """

    verdict: str
    past: bool
    finding: str | None = None
    compared: bool = False
    answer: str = ""


def examine(data: bytes, *, thorough: bool = True) -> Outcome:
    """Read a file and check everything that must hold.

    Args:
        data: any bytes.
        thorough: look at the report as well: its journey as JSON, what Python's unpickler would look up, and, where
            the file is called `tensors`, what torch reads.
    """
    started = time.thread_time()
    inspection: Inspection | None = None
    past, verdict, answer = True, "crash", ""
    with _WATCH.listening() as events:
        try:
            inspection = read(BytesSource(data)).inspection
            verdict = inspection.trust
            answer = f"{inspection.format} {inspection.kind} {' '.join(inspection.reasons)}"
        except UnsafeArtifactError as error:
            verdict, answer, past = "unsafe", error.detail, _is_past(error, data)
        except MalformedArtifactError as error:
            verdict, answer, past = "malformed_artifact", error.detail, _is_past(error, data)
        except Exception as error:  # noqa: BLE001 - whatever else it raises is what is looked for
            where = extract_tb(error.__traceback__)[-1]
            return Outcome("crash", past=True, finding=f"{type(error).__name__} at {where.name}: {error}"[:300])
    if events:
        return Outcome(verdict, past, f"it did more than read: {events[:3]}")
    if time.thread_time() - started > MOST_SECONDS:
        return Outcome(verdict, past, f"it took {time.thread_time() - started:.1f} s")
    if inspection is None or not thorough:
        return Outcome(verdict, past, answer=answer)
    compared = verdict == "tensors"
    finding = _report_finding(inspection, data)
    if finding is None and compared:
        finding = truth.difference(inspection, data)
    return Outcome(verdict, past, finding, compared, answer)


def _container_finding(data: bytes) -> str | None:
    """Return why readers of zip files could see another file than ours: the rules of its container, told once more."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None  # Python's zipfile refuses things that do not matter, such as odd version numbers
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


def _report_finding(inspection: Inspection, data: bytes) -> str | None:  # noqa: PLR0911 - one return a rule
    """Return what is wrong with a report: it loses something on the wire, or a mention of what the pickle mentions."""
    document = inspection_to_json(inspection)
    if inspection_to_json(inspection_from_json(document)) != document:
        return "the report is not the same after a journey as JSON"
    lie = _container_finding(data) if data.startswith(b"PK") else None
    if lie is not None:
        return lie
    if inspection.format == "torch-zip":
        pickled = _object_pickle(data)
        parsed = pickle_mutations.parse(pickled)
        if parsed is not None and parsed[1] != len(pickled):
            return "bytes follow the pickle"
    mentioned = _mentioned(inspection, data)
    missing = {f"{module}.{name}" for module, name in mentioned} - set(inspection.globals)
    if missing:
        return f"the pickle mentions what the report does not: {sorted(missing)}"
    harmful = [pair for pair in mentioned if pair[0].partition(".")[0] in _HARMFUL_MODULES or pair in _HARMFUL]
    if harmful and inspection.trust != "unsafe":
        return f"it is called {inspection.trust}, and mentions {harmful}"
    foreign = {f"{module}.{name}" for module, name in mentioned} - truth.allowed().keys()
    if foreign and inspection.trust == "tensors":
        return f"it is called tensors, and mentions {sorted(foreign)}"
    return None


def _mentioned(inspection: Inspection, data: bytes) -> list[tuple[str, str]]:
    if inspection.format == "torch-zip":
        return truth.mentions(_object_pickle(data))
    return truth.mentions(data, 5) if inspection.format == "torch-legacy" else []


def _object_pickle(data: bytes) -> bytes:
    """Return the pickle of a torch zip file; nothing where Python's zipfile is stricter than it need be."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entry = next(each for each in archive.infolist() if each.filename.partition("/")[2] == "data.pkl")
            entry.CRC = None  # type: ignore[assignment] - a wrong one is no evidence of anything
            return archive.read(entry)
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return b""


def _is_past(error: ArtifactError, data: bytes) -> bool:
    """Return whether an error comes from within a container that was good."""
    first: BaseException = error
    while isinstance(first.__context__, ArtifactError):
        first = first.__context__  # what was found in a file that is broken was looked for because it is
    steps: list[tuple[str, str]] = []
    trace = first.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        steps.append((code.co_filename.rpartition("/")[2].removesuffix(".py"), code.co_name))
        trace = trace.tb_next
    below = [step for step in steps if step[0] not in {"property", "reader", "contextlib"}][:2]
    if not below or any(step in _CONTAINER_STEPS for step in below):
        return False
    return below[0][0] not in {"legacy", "detection"} or data.startswith(_LEGACY_PREFIXES)
