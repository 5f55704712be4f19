"""The tar format of torch 0.1.9 and earlier: storages and tensors in tables, then a pickle that refers to them."""

from struct import Struct

from registry.errors import MalformedArtifactError
from registry.formats.class_sources import ClassSources
from registry.formats.inert_names import DTYPE_BYTES, STORAGE_PAIRS
from registry.formats.inspection import Document, Inspection, StorageRecord
from registry.formats.limits import Limits
from registry.formats.nodes import Call, Global, Node, StorageRef, TupleNode
from registry.formats.pickle_stream import PickleStream
from registry.formats.pickled import Pickled, describe
from registry.formats.salvage import naming_harm
from registry.formats.source import ByteSource
from registry.formats.tar_members import read_members, refuse_tar
from registry.formats.values import as_items

_WINDOW_BYTES = 4 << 10
_INTEGER = Struct("<q")
_DIMENSIONS = Struct("<i4x")
_REBUILD = Global("torch._utils", "_rebuild_tensor")


def read_tar(source: ByteSource, limits: Limits) -> Document:
    """Return what a tar file holds that torch 0.1.9 or earlier wrote.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    with naming_harm(source, "tar", limits):
        members = read_members(source)
    streams = {name: PickleStream(source, place, limits, window_bytes=_WINDOW_BYTES) for name, place in members.items()}
    content = _Content(limits)
    root: Node = None
    try:
        streams["sys_info"].next()
        content.read_storages(streams["storages"])
        content.read_tensors(streams["tensors"])
        root = streams["pickle"].next(content.load)
        for stream in streams.values():
            stream.finish()
        inspection = Inspection("torch-tar", "checkpoint", "tensors", source.size)
        pickled = _pickled(streams)
        pickled.root = root
        pickled.calls = [*content.tensors.values(), *pickled.calls]
        return content.sources.note(describe(inspection, pickled, content.records, limits))
    except MalformedArtifactError as error:
        _pickled(streams).refuse_if_dangerous(error.detail)
        raise


def _pickled(streams: dict[str, PickleStream]) -> Pickled:
    return Pickled(*(result for stream in streams.values() for result in stream.results))


class _Content:
    """The tables of one file.

    Attributes:
        records: the storages by key. A storage that is a part of another one has none.
        tensors: the calls that would rebuild the tensors, by key.
        sources: the texts of classes that travel with the file.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._storages: dict[int, StorageRef] = {}
        self.records: dict[str, StorageRecord] = {}
        self.tensors: dict[int, Call] = {}
        self.sources = ClassSources()

    def read_storages(self, stream: PickleStream) -> None:
        """Read the table of storages: for each a pickle, the number of elements, and the elements."""
        for _ in range(self._count(stream.next())):
            key_node, location, kind = _members(stream.next(), 3)
            key = self._new_key(key_node)
            dtype = STORAGE_PAIRS.get(kind.pair) if type(kind) is Global else None
            if dtype is None or type(location) is not str:
                refuse_tar("a storage is of no class that torch has, or lies nowhere")
            (numel,) = _INTEGER.unpack(stream.take(_INTEGER.size))
            size, start = numel * DTYPE_BYTES[dtype], stream.position
            stream.skip(size)
            self._storages[key] = StorageRef(str(key), dtype, untyped=False, location=location, numel=numel)
            self.records[str(key)] = StorageRecord(str(key), size, start, location=location)
        views = as_items(stream.next())
        if views is None:
            refuse_tar("it does not list the parts of its storages")
        for item in views:
            self._add_view(*_members(item, 4))

    def _add_view(self, key_node: Node, root_key: Node, offset: Node, numel: Node) -> None:
        key = self._new_key(key_node)
        root = self._storages.get(root_key) if type(root_key) is int else None
        if root is None or root.view is not None or type(offset) is not int or type(numel) is not int:
            refuse_tar("a part of a storage is not well formed")
        if offset < 0 or numel < 0 or offset + numel > root.numel:
            refuse_tar("a part of a storage reaches beyond its end")
        view = (str(key), offset, numel)
        self._storages[key] = StorageRef(
            root.key, root.dtype, untyped=False, location=root.location, numel=root.numel, view=view
        )

    def read_tensors(self, stream: PickleStream) -> None:
        """Read the table of tensors: for each a pickle, the number of dimensions, sizes, strides and the offset."""
        for _ in range(self._count(stream.next())):
            key_node, storage_key, kind = _members(stream.next(), 3)
            key = self._new_key(key_node)
            storage = self._storages.get(storage_key) if type(storage_key) is int else None
            if storage is None or type(kind) is not Global:
                refuse_tar("a tensor has no storage or no class")
            (dimensions,) = _DIMENSIONS.unpack(stream.take(_DIMENSIONS.size))
            if not 0 <= dimensions <= self._limits.dimensions:
                refuse_tar("a tensor has too many dimensions")
            numbers = Struct(f"<{2 * dimensions + 1}q")
            *places, offset = numbers.unpack(stream.take(numbers.size))
            size, stride = TupleNode(tuple(places[:dimensions])), TupleNode(tuple(places[dimensions:]))
            self.tensors[key] = Call(_REBUILD, (storage, offset, size, stride))

    def load(self, identity: Node) -> Node:
        """Return what a persistent id names: a tensor, a storage, or a class that travels with its text."""
        if type(identity) is TupleNode:
            return self._load_class(identity)
        digits = identity if isinstance(identity, str) and identity.isascii() and identity.isdigit() else ""
        key = int(digits) if 0 < len(digits) <= self._limits.integer_digits else identity
        found = self.tensors.get(key) or self._storages.get(key) if type(key) is int else None
        if found is None:
            refuse_tar("its pickle refers to a tensor that the file does not hold")
        return found

    def _load_class(self, identity: TupleNode) -> Node:
        kind, place, text = _members(identity, 3)
        if type(kind) is not Global or not isinstance(text, str | None):
            refuse_tar("its pickle refers to a class that is none")
        self.sources.add(str(kind), place, text)
        return kind

    def _count(self, value: Node) -> int:
        if type(value) is not int or not 0 <= value <= self._limits.names:
            refuse_tar("it does not say how many tensors or storages it holds")
        return value

    def _new_key(self, key: Node) -> int:
        """Return a key, which are pointers; torch keeps storages and tensors in one table."""
        if type(key) is not int or not 0 <= key < 1 << 64 or key in self._storages or key in self.tensors:
            refuse_tar("a storage or tensor has no key of its own")
        return key


def _members(node: Node, count: int) -> tuple[Node, ...]:
    items = node.items if type(node) is TupleNode else ()
    if len(items) != count:
        refuse_tar("a description of a storage or tensor is not well formed")
    return items
