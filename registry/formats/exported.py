"""What `torch.export.save` wrote (pt2): graphs as JSON beside weights in raw records, described by JSON too."""

import contextlib
import re
from collections.abc import Iterable

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.archive_storages import is_big_endian
from registry.formats.export_config import View, WeightEntry, read_config
from registry.formats.inspection import Document, Inspection, Role, StorageRecord, TensorRecord
from registry.formats.leaked_paths import note_paths
from registry.formats.limits import Limits
from registry.formats.machine import refuse_if_dangerous, run
from registry.formats.nested import find_archives, read_nested, take_over
from registry.formats.nodes import Call, DictNode, Global, Node, StorageRef, TupleNode
from registry.formats.source import ByteSource
from registry.formats.strangers import check_strangers, note_native_code
from registry.formats.tensors import TensorDecoder
from registry.formats.values import as_pairs
from registry.formats.verdict import judge

_CONFIG = re.compile(r"data/(?P<folder>weights|constants)/(?P<model>[^/]+)_(?P=folder)_config\.json")
_WHOLE = re.compile(r"data/(?P<folder>weights|constants)/(?P<model>[^/]+)\.pt")
"""Weights as the first versions of the format had them: one torch.save file a model."""
_OPAQUE = re.compile(r"data/constants/opaque_obj_[0-9]{1,9}")
"""Constants that are no tensors: pickles, which `torch.export.load` runs."""
_KNOWN = re.compile(
    r"archive_format|archive_version|byteorder|\.format_version|\.storage_alignment|models/[^/]+\.json|"
    r"(?:\.data/)?version|\.data/serialization_id"
)
_MODEL = re.compile(r"models/[^/]+\.json")
_REBUILD = Global("torch._utils", "_rebuild_tensor_v3")
_SMALL_BYTES = 64


def read_export(archive: Archive, source: ByteSource, limits: Limits) -> Document:
    """Return what `torch.export.save` wrote; torch.save files inside it are read as well.

    The document's root is the state_dict of the program, of each program where there are several.

    Raises:
        MalformedArtifactError: it, or a file inside it, cannot be read strictly.
        UnsafeArtifactError: likewise, and something in it does harm.
    """
    if archive.read("archive_format", _SMALL_BYTES).strip() != b"pt2":
        raise MalformedArtifactError("The record `archive_format` does not say `pt2`.")
    inspection = Inspection("torch-export", "module", "code", source.size)
    inspection.reasons.append("It is a torch.export archive: its graph is code.")
    reading = _Reading(archive, source, limits, inspection)
    root = reading.read_models()
    others = [name for name in archive.entries if name not in reading.done and not _KNOWN.fullmatch(name)]
    for name in find_archives(archive, others):
        reading.read_nested(name)
    for name in find_archives(archive, sorted(reading.raw)):
        # Numbers may begin as archives do. What is one in fact is looked into, though torch would not.
        with contextlib.suppress(MalformedArtifactError):
            reading.read_nested(name)
    for name in filter(_OPAQUE.fullmatch, others):
        reading.run_opaque(name)
    inspection.unknown_records = [name for name in others if name not in reading.done]
    check_strangers(archive, inspection.unknown_records, limits)
    note_native_code(inspection, archive)
    note_paths(inspection, archive, list(filter(_MODEL.fullmatch, archive.entries)))
    return Document(inspection, root)


class _Reading:
    """One reading of an archive.

    Attributes:
        done: the records that were read.
        raw: those of them that hold the bytes of weights.
    """

    def __init__(self, archive: Archive, source: ByteSource, limits: Limits, inspection: Inspection) -> None:
        self._archive = archive
        self._source = source
        self._limits = limits
        self._inspection = inspection
        self._big_endian = is_big_endian(archive)
        self._storages: dict[str, StorageRecord] = {}
        self._decoder = TensorDecoder(self._storages, limits)
        self._documents: dict[str, Document] = {}
        self.done: set[str] = set()
        self.raw: set[str] = set()

    def read_models(self) -> Node:
        """List the weights and constants of all models; return the state_dict, or the state_dicts by model."""
        matches = [_CONFIG.fullmatch(name) or _WHOLE.fullmatch(name) for name in self._archive.entries]
        found = [match for match in matches if match is not None]
        several = len({match["model"] for match in found}) > 1
        models: dict[str, DictNode] = {}
        for match in found:
            model, constant = models.setdefault(match["model"], DictNode()), match["folder"] == "constants"
            pairs = self._read_weights(match[0], match["model"] if several else None, constant=constant)
            model.pairs += [] if constant else pairs
        self._inspection.storages = list(self._storages.values())
        if not several:
            return next(iter(models.values()), DictNode())
        self._inspection.kind, self._inspection.parts = "checkpoint", list(models)
        return DictNode(list(models.items()))

    def _read_weights(self, record: str, part: str | None, *, constant: bool) -> list[tuple[Node, Node]]:
        self.done.add(record)
        if _WHOLE.fullmatch(record):
            document = self._read_document(record)
            role: Role = "constant" if constant else "unknown"
            self._list(document.inspection.tensors, (), role, part)
            return as_pairs(document.root) or []
        pairs: list[tuple[Node, Node]] = []
        for entry in read_config(self._archive, record, self._limits):
            role = "constant" if constant else "parameter" if entry.is_parameter else "buffer"
            self.done.add(entry.record)
            if entry.view is None:
                document = self._read_document(entry.record)
                self._list(document.inspection.tensors, (entry.name,), role, part)
                pairs.append((entry.name, document.root))
            else:
                pairs.append((entry.name, self._read_raw(entry, entry.view, role, part)))
        return pairs

    def _read_raw(self, entry: WeightEntry, view: View, role: Role, part: str | None) -> Call:
        raw = self._archive.entries[entry.record]
        self.raw.add(entry.record)
        if entry.record not in self._storages:
            offset = self._archive.data_offset(raw)
            self._storages[entry.record] = StorageRecord(
                entry.record, raw.size, offset, raw.name, big_endian=self._big_endian, location=view.location
            )
        storage = StorageRef(entry.record, "uint8", untyped=True, location=view.location, numel=raw.size)
        shape, stride, dtype = TupleNode(view.shape), TupleNode(view.stride), Global("torch", view.dtype)
        hooks = Call(Global("collections", "OrderedDict"), ())
        # A state_dict holds no parameters: what requires a gradient is listed as such, and restored without.
        call = Call(_REBUILD, (storage, view.offset, shape, stride, False, hooks, dtype))
        self._decoder.decode([call])
        record = self._decoder.facts[id(call)].record(entry.name, (entry.name,), None, role)
        record = record._replace(requires_grad=view.requires_grad)
        self._list([record], (), role, part)
        return call

    def _read_document(self, name: str) -> Document:
        """Return a torch.save file inside the archive, whose storages are then those of the archive."""
        if name not in self._documents:
            self._documents[name] = self.read_nested(name)
            self._storages |= {each.key: each for each in self._documents[name].inspection.storages}
        return self._documents[name]

    def _list(self, tensors: Iterable[TensorRecord], above: tuple[str, ...], role: Role, part: str | None) -> None:
        above = above if part is None else (part, *above)
        for tensor in tensors:
            path = (*above, *tensor.path)
            name = ".".join(map(str, path))
            own: Role = tensor.role if role == "unknown" else role
            self._inspection.tensors.append(tensor._replace(name=name, path=path, part=part, role=own))
        if len(self._inspection.tensors) > self._limits.names:
            raise MalformedArtifactError(f"The torch.export archive names more than {self._limits.names} tensors.")

    def read_nested(self, name: str) -> Document:
        """Read a torch.save file inside the archive, and take over its verdict."""
        document = read_nested(self._archive, name, self._source, self._limits)
        take_over(self._inspection, document.inspection, name)
        self.done.add(name)
        return document

    def run_opaque(self, name: str) -> None:
        """Run a pickle, and take over its verdict."""
        data = self._archive.read(name)
        result = run(data, self._limits)
        if result.end != len(data):
            problem = f"Bytes follow the end of the pickle {name!r}."
            refuse_if_dangerous(result.globals, result.dangers, problem)
            raise MalformedArtifactError(problem)
        take_over(self._inspection, judge(result.globals, result.calls, result.dangers, self._limits), name)
        self.done.add(name)
