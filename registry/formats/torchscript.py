"""TorchScript archives: a pickle of attributes beside source code that runs when the file is loaded."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.facts import TensorFacts
from registry.formats.inspection import Document, Inspection, PathKey, Role, StorageRecord, TensorRecord
from registry.formats.limits import Limits
from registry.formats.machine import MachineResult, refuse_if_dangerous, run
from registry.formats.nodes import Call, Global, Node
from registry.formats.pickled import Pickled
from registry.formats.source import ByteSource
from registry.formats.storages import StorageTable, storage_bytes
from registry.formats.strangers import check_strangers
from registry.formats.tensors import TensorDecoder
from registry.formats.values import state_pairs
from registry.formats.verdict import judge

_JIT = frozenset(
    ("torch.jit._pickle", name)
    for name in (
        "restore_type_tag",
        "build_intlist",
        "build_tensorlist",
        "build_doublelist",
        "build_boollist",
        "build_tensor_from_id",
    )
)
"""What TorchScript's own pickler writes; these rebuild typed lists and do nothing else."""

_PICKLES = ("data.pkl", "constants.pkl", "traced_inputs.pkl", "bytecode.pkl", "mobile_debug_handles.pkl")
_KNOWN = re.compile(
    r"version|byteorder|\.data/.*|code/.*\.py|code/.*\.debug_pkl|(?:data|constants|traced_inputs|bytecode)/\d+|extra/.*"
)
_TEXT_BYTES = 64 << 20
_SMALL_BYTES = 4096
_FILE_WORDS = rb"save|from_file|read_file|write_file"
_FILE_CALLS = re.compile(
    rb"\w*\)?\s*[.:]\s*(?:" + _FILE_WORDS + rb")\b"
    rb"|[\"'](?:" + _FILE_WORDS + rb")[\"']"
    rb"|ops\s*\.\s*\w+\s*\.\s*\w*(?:save|load|file|exec|system)\w*\s*\("
    rb"|getattr\s*\([^\n]*\\"
)
"""Operators that touch files, also by another name for `torch`, or by an attribute whose name is escaped."""

_CUSTOM_OPERATOR = re.compile(rb"\bops\s*\.\s*(\w+)\s*\.\s*(\w+)")
_OWN_NAMESPACES = frozenset({b"aten", b"prim", b"quantized", b"prims", b"mkldnn", b"prepacked", b"profiler"})
_CLASS = re.compile(r"^class (\S+?)\((Module|Interface|NamedTuple|Enum|)\):$", re.MULTILINE)
_NAMES = re.compile(r"^  __(parameters|buffers)__ = \[(.*?)\]", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")


@dataclass(slots=True)
class _ModuleClass:
    """What the source of a module's class says of its attributes."""

    parameters: set[str] = field(default_factory=set[str])
    buffers: set[str] = field(default_factory=set[str])

    def role(self, name: str) -> Role:
        if name in self.parameters:
            return "parameter"
        return "buffer" if name in self.buffers else "constant"


def read_torchscript(archive: Archive, source: ByteSource, limits: Limits) -> Document:
    """Return what a TorchScript archive holds: always `code`, `unsafe` when its code touches files.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    inspection = Inspection("torchscript", "torchscript", "code", source.size)
    texts = dict(_read_sources(archive, limits))
    results = {name: _run(archive, name, limits) for name in _PICKLES if name in archive.entries}
    pickled = Pickled(*(result for result, _ in results.values()))
    try:
        _check_records(archive, inspection, limits)
        _judge(inspection, pickled, texts, archive, limits)
        if "data.pkl" in results:
            _describe(inspection, archive, results["data.pkl"], texts, limits)
    except MalformedArtifactError as error:
        refuse_if_dangerous(_foreign(pickled.mentioned), pickled.dangers, error.detail)
        raise
    return Document(inspection)


def _read_sources(archive: Archive, limits: Limits) -> Iterator[tuple[str, bytes]]:
    names = [name for name in archive.entries if name.startswith("code/") and name.endswith(".py")]
    if sum(archive.entries[name].size for name in names) > _TEXT_BYTES:
        raise MalformedArtifactError(f"The TorchScript archive has more than {_TEXT_BYTES} bytes of code.")
    for name in names:
        yield name, archive.read(name, limits.pickle_bytes).replace(b"\\\n", b" ")


def _run(archive: Archive, name: str, limits: Limits) -> tuple[MachineResult, StorageTable]:
    table = StorageTable()
    data = archive.read(name)
    result = run(data, limits, persistent_load=table.add)
    if result.end != len(data):
        refuse_if_dangerous(_foreign(result.globals), result.dangers, "bytes follow the end of a pickle")
        raise MalformedArtifactError(f"Bytes follow the end of the pickle {name!r}.")
    return result, table


def _foreign(mentioned: Iterable[Global]) -> list[Global]:
    return [each for each in mentioned if (each.module, each.name) not in _JIT]


def _check_records(archive: Archive, inspection: Inspection, limits: Limits) -> None:
    unknown = [name for name in archive.entries if name not in _PICKLES and not _KNOWN.fullmatch(name)]
    inspection.unknown_records = unknown
    extra = [name for name in archive.entries if name.startswith("extra/")]
    check_strangers(archive, [*unknown, *extra], limits)
    if "version" not in archive.entries and ".data/version" not in archive.entries:
        raise MalformedArtifactError("The archive has no record `version`.")


def _judge(
    inspection: Inspection, pickled: Pickled, texts: Mapping[str, bytes], archive: Archive, limits: Limits
) -> None:
    verdict = judge(_foreign(pickled.mentioned), pickled.calls, pickled.dangers, limits)
    inspection.globals = sorted({str(each) for each in pickled.mentioned})
    inspection.foreign_globals = verdict.foreign_globals
    if verdict.trust == "unsafe":
        inspection.trust = "unsafe"
        inspection.reasons += verdict.reasons
    touching = sorted(
        {match.group().decode("latin-1").strip() for text in texts.values() for match in _FILE_CALLS.finditer(text)}
    )
    if not touching and "bytecode.pkl" in archive.entries:
        touching = sorted(set(_file_operators(archive.read("bytecode.pkl"))))
    if touching:
        inspection.trust = "unsafe"
        inspection.reasons.append(f"Its TorchScript code reads or writes files: {', '.join(touching[:10])}.")
    inspection.reasons.append("It is TorchScript: loading it runs code that the file brings along.")
    custom = sorted(
        {
            b"::".join(pair).decode()
            for text in texts.values()
            for pair in _CUSTOM_OPERATOR.findall(text)
            if pair[0] not in _OWN_NAMESPACES
        }
    )
    if custom:
        inspection.reasons.append(f"It needs operators that torch does not bring along: {', '.join(custom[:20])}.")


def _file_operators(bytecode: bytes) -> Iterator[str]:
    for word in (b"aten::save", b"aten::from_file", b"image::read_file", b"image::write_file"):
        if word in bytecode:
            yield word.decode()


def _describe(
    inspection: Inspection,
    archive: Archive,
    read: tuple[MachineResult, StorageTable],
    texts: Mapping[str, bytes],
    limits: Limits,
) -> None:
    """List storages and tensors of `data.pkl` under the names that `state_dict()` would have."""
    result, table = read
    storages = _storage_records(archive, table)
    decoder = TensorDecoder(storages, limits)
    decoder.decode(result.calls)
    inspection.storages = list(storages.values())
    inspection.tensors = list(_iter_tensors(result.root, decoder.facts, _module_classes(texts), limits))
    if not inspection.tensors and any(name.startswith("constants/") for name in archive.entries):
        inspection.reasons.append("Its weights have no names: they are constants of its code.")


def _storage_records(archive: Archive, table: StorageTable) -> dict[str, StorageRecord]:
    order = archive.read("byteorder", _SMALL_BYTES) if "byteorder" in archive.entries else b"little"
    if order not in {b"little", b"big"}:
        raise MalformedArtifactError("The record `byteorder` says neither `little` nor `big`.")
    records: dict[str, StorageRecord] = {}
    for key, ref in table.found.items():
        entry = archive.entries.get(f"data/{key}")
        size = storage_bytes(ref)
        if entry is None or entry.size != size:
            raise MalformedArtifactError(f"The record of storage {key} is missing or has not {size} bytes.")
        records[key] = StorageRecord(
            key, size, archive.data_offset(entry), entry.name, big_endian=order == b"big", location=ref.location
        )
    return records


def _module_classes(texts: Mapping[str, bytes]) -> dict[str, _ModuleClass]:
    """Return what the sources say of each module class, by its qualified name."""
    found: dict[str, _ModuleClass] = {}
    for path, data in texts.items():
        text = data.decode(errors="replace")
        package = path.removeprefix("code/").removesuffix(".py").replace("/", ".")
        headings = list(_CLASS.finditer(text))
        for heading, following in zip(headings, [*headings, None][1:], strict=True):
            if heading[2] == "Module":
                body = text[heading.end() : following.start() if following else len(text)]
                found[f"{package}.{heading[1]}"] = _module_class(body)
    return found


def _module_class(body: str) -> _ModuleClass:
    listed = {match[1]: {one or two for one, two in _QUOTED.findall(match[2])} for match in _NAMES.finditer(body)}
    return _ModuleClass(listed.get("parameters", set()), listed.get("buffers", set()))


def _iter_tensors(
    root: Node, facts: Mapping[int, TensorFacts], classes: Mapping[str, _ModuleClass], limits: Limits
) -> Iterator[TensorRecord]:
    """Yield the tensors that are attributes of modules: own ones first, then those of the modules below."""
    waiting: list[tuple[Node, tuple[PathKey, ...], frozenset[int]]] = [(root, (), frozenset())]
    visited = 0
    while waiting:
        node, path, above = waiting.pop()
        if type(node) is not Call or id(node) in above:
            continue
        below: list[tuple[Node, tuple[PathKey, ...], frozenset[int]]] = []
        known = classes.get(str(node.function))
        for key, value in state_pairs(node):
            visited += 1
            if visited > limits.names or len(path) > limits.json_depth:
                raise MalformedArtifactError("The TorchScript archive has too many attributes, or nests them too deep.")
            if not isinstance(key, str) or type(value) is not Call:
                continue
            if len(key) > limits.name_bytes // (1 + limits.json_depth):
                raise MalformedArtifactError("The TorchScript archive has an attribute whose name is too long.")
            if id(value) in facts:
                yield _record(facts[id(value)], (*path, key), known.role(key) if known else "constant")
            else:
                below.append((value, (*path, key), above | {id(node)}))
        waiting += reversed(below)


def _record(facts: TensorFacts, path: tuple[PathKey, ...], role: Role) -> TensorRecord:
    name = ".".join(map(str, path))
    record = TensorRecord(
        name,
        path,
        None,
        facts.dtype,
        facts.shape,
        facts.stride,
        facts.storage_offset,
        facts.storage_key,
        facts.file_offset,
        facts.nbytes,
        role,
        facts.requires_grad,
        facts.device,
        facts.layout,
    )
    components = {key: _record(each, (*path, key), role) for key, each in facts.components.items()}
    return replace(record, conj=facts.conj, neg=facts.neg, quantisation=facts.quantisation, components=components)
