"""TorchScript archives: a pickle of attributes beside source code that runs when the file is loaded."""

import re
from collections.abc import Iterator, Mapping

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.archive_storages import find_storages
from registry.formats.facts import TensorFacts
from registry.formats.inert_names import JIT_PAIRS
from registry.formats.inspection import Document, Inspection, PathKey, StorageRecord, TensorRecord
from registry.formats.leaked_paths import note_paths
from registry.formats.limits import Limits
from registry.formats.machine import MachineResult, refuse_if_dangerous, run
from registry.formats.nodes import Call, DictNode, Global, Node
from registry.formats.pickled import Pickled
from registry.formats.source import ByteSource
from registry.formats.storages import StorageTable
from registry.formats.strangers import check_strangers
from registry.formats.tensors import TensorDecoder
from registry.formats.torchscript_code import (
    ModuleClass,
    custom_operators,
    file_calls,
    file_operators,
    is_text,
    module_classes,
    read_texts,
)
from registry.formats.values import state_pairs
from registry.formats.verdict import judge

_PICKLE = re.compile(
    r"(?:data|constants|traced_inputs|bytecode|mobile_debug_handles|callstack_debug_map)\.pkl|code/.*\.debug_pkl"
)
_STORAGE = re.compile(r"(?:data|constants|traced_inputs|bytecode)/\d+(?:\.storage)?")
_KNOWN = re.compile(r"version|byteorder|\.data/(?:version|serialization_id)|\.format_version|\.storage_alignment")
_JIT_NAMES = frozenset(f"{module}.{name}" for module, name in JIT_PAIRS)


def read_torchscript(archive: Archive, source: ByteSource, limits: Limits) -> Document:
    """Return what a TorchScript archive holds: always `code`, `unsafe` when its code touches files.

    The document's root is the state_dict that the module would have: parameters and buffers by name.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    inspection = Inspection("torchscript", "torchscript", "code", source.size)
    results: dict[str, tuple[MachineResult, StorageTable]] = {}
    root: Node = None
    try:
        texts = read_texts(archive, limits)
        for name in filter(_PICKLE.fullmatch, archive.entries):
            results[name] = run_jit_pickle(archive, name, limits)
        _check_records(archive, inspection, limits)
        _judge(inspection, _pickled(results), texts, archive, limits)
        note_paths(inspection, archive, [name for name in results if name.endswith(".debug_pkl")])
        if "data.pkl" in results:
            root = _describe(inspection, archive, results, texts, limits)
    except MalformedArtifactError as error:
        _pickled(results).refuse_if_dangerous(error.detail)
        raise
    return Document(inspection, root)


def _pickled(results: Mapping[str, tuple[MachineResult, StorageTable]]) -> Pickled:
    return Pickled(*(result for result, _ in results.values()))


def run_jit_pickle(archive: Archive, name: str, limits: Limits) -> tuple[MachineResult, StorageTable]:
    """Run a pickle that TorchScript's own pickler wrote.

    Raises:
        MalformedArtifactError: it cannot be read strictly, or bytes follow it.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    folder = name.removesuffix(".pkl")
    table = StorageTable("" if folder == "data" else f"{folder}/", jit=True)
    data = archive.read(name)
    result = run(data, limits, persistent_load=table.add)
    if result.end != len(data):
        problem = f"Bytes follow the end of the pickle {name!r}."
        refuse_if_dangerous(result.globals, result.dangers, problem)
        raise MalformedArtifactError(problem)
    return result, table


def _check_records(archive: Archive, inspection: Inspection, limits: Limits) -> None:
    known = (_PICKLE, _STORAGE, _KNOWN)
    rest = [name for name in archive.entries if not is_text(name) and not any(each.fullmatch(name) for each in known)]
    inspection.unknown_records = [name for name in rest if not name.startswith("extra/")]
    check_strangers(archive, rest, limits)
    if "version" not in archive.entries and ".data/version" not in archive.entries:
        raise MalformedArtifactError("The archive has no record `version`.")


def _judge(
    inspection: Inspection, pickled: Pickled, texts: Mapping[str, bytes], archive: Archive, limits: Limits
) -> None:
    verdict = judge(pickled.mentioned, pickled.calls, pickled.dangers, limits)
    inspection.globals = sorted({str(each) for each in pickled.mentioned})
    inspection.foreign_globals = [name for name in verdict.foreign_globals if name not in _JIT_NAMES]
    if verdict.trust == "unsafe":
        inspection.trust = "unsafe"
        inspection.reasons += verdict.reasons
    touching = file_calls(texts)
    if not touching and "bytecode.pkl" in archive.entries:
        touching = file_operators(archive.read("bytecode.pkl"))
    if touching:
        inspection.trust = "unsafe"
        inspection.reasons.append(f"Its TorchScript code reads or writes files: {', '.join(touching[:10])}.")
    inspection.reasons.append("It is TorchScript: loading it runs code that the file brings along.")
    custom = custom_operators(texts)
    if custom:
        inspection.reasons.append(f"It needs operators that torch does not bring along: {', '.join(custom[:20])}.")


def _describe(
    inspection: Inspection,
    archive: Archive,
    results: Mapping[str, tuple[MachineResult, StorageTable]],
    texts: Mapping[str, bytes],
    limits: Limits,
) -> Node:
    """List storages, and the tensors of `data.pkl` under the names that `state_dict()` would have; return that one."""
    storages: dict[str, StorageRecord] = {}
    for name in ("data.pkl", "constants.pkl"):
        if name in results:
            places = (name.replace(".pkl", "/{}"), name.replace(".pkl", "/{}.storage"))
            storages |= find_storages(archive, results[name][1], *places)
    decoder = TensorDecoder(storages, limits)
    result, _ = results["data.pkl"]
    decoder.decode(result.calls)
    inspection.storages = list(storages.values())
    listed = list(_iter_tensors(result.root, decoder.facts, module_classes(texts), limits))
    inspection.tensors = [record for record, _ in listed]
    if not listed and any(key.startswith("constants/") for key in storages):
        inspection.reasons.append("Its weights have no names: they are constants of its code.")
    return DictNode([(record.name, node) for record, node in listed if record.role in {"parameter", "buffer"}])


def _iter_tensors(
    root: Node, facts: Mapping[int, TensorFacts], classes: Mapping[str, ModuleClass], limits: Limits
) -> Iterator[tuple[TensorRecord, Call]]:
    """Yield the tensors that are attributes of modules: own ones first, then those of the modules below."""
    waiting: list[tuple[Node, tuple[PathKey, ...], frozenset[int]]] = [(root, (), frozenset())]
    visited = 0
    while waiting:
        node, path, above = waiting.pop()
        if type(node) is not Call or id(node) in above:
            continue
        below: list[tuple[Node, tuple[PathKey, ...], frozenset[int]]] = []
        known = classes.get(str(node.function)) if type(node.function) is Global else None
        for key, value in state_pairs(node):
            visited += 1
            if visited > limits.names or len(path) > limits.json_depth:
                raise MalformedArtifactError("The TorchScript archive has too many attributes, or nests them too deep.")
            if not isinstance(key, str) or type(value) is not Call:
                continue
            if len(key) > limits.name_bytes // (1 + limits.json_depth):
                raise MalformedArtifactError("The TorchScript archive has an attribute whose name is too long.")
            here = (*path, key)
            if id(value) in facts:
                role = known.role(key) if known else "constant"
                yield facts[id(value)].record(".".join(map(str, here)), here, None, role), value
            else:
                below.append((value, here, above | {id(node)}))
        waiting += reversed(below)
