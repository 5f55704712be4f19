"""The stream that torch.save wrote before 1.6: five pickles, then the storages one after the other."""

from registry.errors import MalformedArtifactError
from registry.formats.class_sources import ClassSources
from registry.formats.inert_names import DTYPE_BYTES
from registry.formats.inspection import Document, Inspection, StorageRecord
from registry.formats.limits import Limits
from registry.formats.nodes import Global, Node, TupleNode
from registry.formats.pickle_stream import PickleStream
from registry.formats.pickled import Pickled, describe
from registry.formats.source import ByteSource
from registry.formats.storages import StorageTable, storage_bytes
from registry.formats.values import as_items, as_pairs

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
_WINDOW_BYTES = 256 << 10
_COUNT_BYTES = 8
_OBJECT = 3
"""Which of the pickles holds the object, counted from 0."""


def read_legacy(source: ByteSource, limits: Limits) -> Document:
    """Return what a legacy torch file holds.

    Raises:
        MalformedArtifactError: it cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    stream = PickleStream(source, (0, source.size), limits, window_bytes=_WINDOW_BYTES)
    table = StorageTable()
    sources = ClassSources()
    try:
        keys = _read_pickles(stream, table, sources)
        storages = _storage_records(source, stream.position, keys, table)
        inspection = Inspection("torch-legacy", "checkpoint", "tensors", source.size)
        return sources.note(describe(inspection, _pickled(stream), storages, limits))
    except MalformedArtifactError as error:
        _pickled(stream).refuse_if_dangerous(error.detail)
        raise


def _read_pickles(stream: PickleStream, table: StorageTable, sources: ClassSources) -> Node:
    """Run the five pickles and return the last one's value, the list of storage keys."""
    if stream.next() != MAGIC_NUMBER:
        raise MalformedArtifactError("The file is a pickle, but not one that torch.save wrote: no magic number.")
    if stream.next() != PROTOCOL_VERSION:
        raise MalformedArtifactError("The file is of an unknown version of torch's legacy format.")
    if as_pairs(stream.next()) is None:
        raise MalformedArtifactError("The file does not describe the system that saved it.")
    stream.next(lambda identity: _load(identity, table, sources))
    return stream.next()


def _pickled(stream: PickleStream) -> Pickled:
    """Return what the pickles so far said; the object is the fourth one's."""
    found = Pickled(*stream.results)
    found.root = stream.results[_OBJECT].root if len(stream.results) > _OBJECT else None
    return found


def _load(identity: Node, table: StorageTable, sources: ClassSources) -> Node:
    """Return what a persistent id names: a storage, or a class that travels with its source text."""
    items = identity.items if type(identity) is TupleNode else ()
    if len(items) != 4 or not isinstance(items[0], str) or items[0] != "module":  # noqa: PLR2004 - word, class, file, text
        return table.add(identity, legacy=True)
    kind, place, text = items[1:]
    if type(kind) is not Global or not isinstance(text, str | None):
        raise MalformedArtifactError("The file has a persistent id of a class that is none.")
    sources.add(str(kind), place, text)
    return kind


def _storage_records(
    source: ByteSource, position: int, key_list: Node, table: StorageTable
) -> dict[str, StorageRecord]:
    """Return the storages, which follow the last pickle in the order of the list, each after its number of elements."""
    keys = as_items(key_list)
    names = [str(key) if type(key) is int else key for key in keys or ()]
    texts = {name for name in names if isinstance(name, str)}
    if keys is None or len(texts) != len(names) or texts != set(table.found):
        raise MalformedArtifactError("The list of storages is not that of the storages that the pickle refers to.")
    if any(table.numbered[str(key)] != (type(key) is int) for key in keys):
        raise MalformedArtifactError("The list of storages has a number for a text, which torch tells apart.")
    starts: list[int] = []
    for name in names:
        starts.append(position)
        position += _COUNT_BYTES + storage_bytes(table.found[name])
    if position != source.size:
        raise MalformedArtifactError(f"The file has {source.size} bytes where its storages end at {position}.")
    counts = source.read_many([(start, _COUNT_BYTES) for start in starts])
    records: dict[str, StorageRecord] = {}
    for name, start, count in zip(names, starts, counts, strict=True):
        ref = table.found[name]
        if int.from_bytes(count, "little", signed=True) != ref.numel:
            raise MalformedArtifactError(f"Storage {name} has not as many elements as the pickle says.")
        size = ref.numel * DTYPE_BYTES[ref.dtype]
        records[name] = StorageRecord(name, size, start + _COUNT_BYTES, location=ref.location)
    return records
