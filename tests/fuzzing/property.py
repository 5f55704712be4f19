"""What must hold of any file: the reader ends with an answer, nothing runs, and torch sees the same."""

import time
from dataclasses import dataclass
from traceback import extract_tb

from fuzzing import containers, pickle_mutations, truth
from fuzzing.watch import Watch
from registry.errors import ArtifactError, MalformedArtifactError, UnsafeArtifactError
from registry.formats.inert_names import JIT_PAIRS
from registry.formats.inspection import Inspection, TensorRecord
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.formats.wire import inspection_from_json, inspection_to_json

MOST_SECONDS = 10.0
_HARMFUL_MODULES = frozenset({"os", "posix", "nt", "subprocess", "commands"})
_HARMFUL = frozenset({("builtins", "eval"), ("builtins", "exec"), ("torch", "load")})
_OF_PACKAGES = {f"{module}.{name}" for module, name in JIT_PAIRS} | {
    "torch.jit._script.unpackage_script_module",
    "torch.fx.graph_module.reduce_package_graph_module",
}
"""What a package's report leaves out: it is code whatever it mentions of these."""
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
    """Read a file and check that nothing else happens, and, where it is called `tensors`, that torch reads the same.

    Args:
        data: any bytes.
        thorough: look at the report as well: its journey as JSON, and what Python's unpickler would look up.
    """
    started = time.thread_time()
    inspection: Inspection | None = None
    past, verdict, answer = True, "crash", ""
    with _WATCH.listening() as events:
        try:
            inspection = read(BytesSource(data)).inspection
            verdict = inspection.trust
            answer = _answer(inspection)
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
    if inspection is None:
        return Outcome(verdict, past, answer=answer)
    compared = verdict == "tensors"
    try:
        finding = _report_finding(inspection, data) if thorough else None
        if compared and finding is None:
            finding = truth.difference(inspection, data)
    except Exception as error:  # noqa: BLE001 - the file is kept, and the campaign goes on
        finding = f"it cannot be compared: {type(error).__name__}: {error}"[:300]
    return Outcome(verdict, past, finding, compared, answer)


def _answer(inspection: Inspection) -> str:
    kinds = {(each.dtype, each.layout, each.storage_key is None, each.conj or each.neg) for each in inspection.tensors}
    return f"{inspection.format} {inspection.kind} {' '.join(inspection.reasons)} {sorted(kinds)}"


def _report_finding(inspection: Inspection, data: bytes) -> str | None:
    """Return what is wrong with a report: it loses something on the wire, or a mention of what the pickles mention."""
    document = inspection_to_json(inspection)
    if inspection_to_json(inspection_from_json(document)) != document:
        return "the report is not the same after a journey as JSON"
    beyond = [each.name for each in inspection.tensors if not _lies_within(each, data)]
    if beyond:
        return f"the tensors {beyond} do not lie in the file"
    contents = containers.contents(inspection, data)
    if contents.lie is not None:
        return contents.lie
    if inspection.format == "torch-zip":
        (pickled,) = contents.pickles or [b""]
        parsed = pickle_mutations.parse(pickled)
        if parsed is not None and parsed[1] != len(pickled):
            return "bytes follow the pickle"
    mentioned = {pair for each in contents.pickles for pair in truth.mentions(each, contents.in_each)}
    return _mention_finding(inspection, mentioned)


def _mention_finding(inspection: Inspection, mentioned: set[tuple[str, str]]) -> str | None:
    names = {f"{module}.{name}" for module, name in mentioned}
    missing = names - set(inspection.globals)
    if missing and (inspection.format != "torch-package" or missing - _OF_PACKAGES):
        return f"the pickle mentions what the report does not: {sorted(missing)}"
    harmful = [pair for pair in mentioned if pair[0].partition(".")[0] in _HARMFUL_MODULES or pair in _HARMFUL]
    if harmful and inspection.trust != "unsafe":
        return f"it is called {inspection.trust}, and mentions {harmful}"
    foreign = names - truth.allowed().keys()
    if foreign and inspection.trust == "tensors":
        return f"it is called tensors, and mentions {sorted(foreign)}"
    return None


def _lies_within(tensor: TensorRecord, data: bytes) -> bool:
    return tensor.file_offset is None or not tensor.nbytes or 0 <= tensor.file_offset < len(data)


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
