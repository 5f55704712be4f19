"""What `torch.package` wrote: Python sources, and pickles whose storages are records of their own."""

import re

from registry.errors import MalformedArtifactError
from registry.formats.archive import Archive
from registry.formats.archive_storages import find_storages
from registry.formats.inert_names import JIT_PAIRS
from registry.formats.inspection import Document, Inspection, StorageRecord
from registry.formats.limits import Limits
from registry.formats.machine import MachineResult, run
from registry.formats.masked_pickles import says_pickle
from registry.formats.nodes import Call, DictNode, Global, Node, TupleNode
from registry.formats.pickled import Pickled, describe
from registry.formats.source import ByteSource
from registry.formats.storages import StorageTable
from registry.formats.strangers import check_strangers, note_native_code
from registry.formats.torchscript_code import file_calls, read_texts

_OWN = re.compile(
    r"\.data/(?:extern_modules|python_version|version|serialization_id)|byteorder|version|"
    r"\.format_version|\.storage_alignment"
)
_SCRIPT = re.compile(r"\.data/ts_code/.*\.(?:pkl|debug_pkl)")
_REDUCERS = frozenset(
    {("torch.jit._script", "unpackage_script_module"), ("torch.fx.graph_module", "reduce_package_graph_module")}
)
"""What rebuilds the modules of torch itself that travel in packages; both run code of the package."""
_MEMBERS = 3
"""The fewest items of a persistent id of what is rebuilt: a word, a number, and a function."""


def read_package(archive: Archive, source: ByteSource, limits: Limits) -> Document:
    """Return what `torch.package` wrote: always `code`.

    Raises:
        MalformedArtifactError: it, or a pickle in it, cannot be read strictly.
        UnsafeArtifactError: likewise, and it mentions something that does harm.
    """
    inspection = Inspection("torch-package", "module", "code", source.size)
    pickles = _Pickles(archive, limits)
    try:
        for name in _find_pickles(archive):
            pickles.run(name)
        storages = pickles.find_storages()
        known = {*pickles.results, *(f".data/{pickles.own_key(key)}.storage" for key in storages)}
        rest = [name for name in archive.entries if name not in known and not _OWN.fullmatch(name)]
        inspection.unknown_records = [name for name in rest if not name.endswith(".py")]
        check_strangers(archive, inspection.unknown_records, limits)
        return _complete(describe(inspection, pickles.pickled(), storages, limits), archive, limits)
    except MalformedArtifactError as error:
        pickles.pickled().refuse_if_dangerous(error.detail)
        raise


def _find_pickles(archive: Archive) -> list[str]:
    """Return the records that are loaded as pickles: those called so, and those that say so themselves."""
    names = [name for name in archive.entries if not name.startswith(".data/") and not name.endswith(".py")]
    starts = archive.read_starts(names, 2)
    found = [name for name, start in zip(names, starts, strict=True) if name.endswith(".pkl") or says_pickle(start)]
    return [*found, *filter(_SCRIPT.fullmatch, archive.entries)]


def _complete(document: Document, archive: Archive, limits: Limits) -> Document:
    inspection = document.inspection
    touching = file_calls(read_texts(archive, limits))
    if touching:
        inspection.reasons.append(f"Its TorchScript code reads or writes files: {', '.join(touching[:10])}.")
    inspection.trust = "unsafe" if touching or inspection.trust == "unsafe" else "code"
    if document.root is None:
        inspection.kind = "module"
    inspection.reasons.append("It is a torch.package archive: Python sources that run when it is imported.")
    note_native_code(inspection, archive)
    return document


class _Pickles:
    """The pickles of a package, which share their storages.

    Attributes:
        results: what each said, by the name of its record.
    """

    def __init__(self, archive: Archive, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits
        self._table = StorageTable(jit=True)
        self._reduced: dict[int, Call] = {}
        self.results: dict[str, MachineResult] = {}

    def run(self, name: str) -> None:
        """Run a pickle to its end, which must be that of its record."""
        data = self._archive.read(name)
        self.results[name] = result = run(data, self._limits, persistent_load=self._load)
        if result.end != len(data):
            raise MalformedArtifactError(f"Bytes follow the end of the pickle {name!r}.")

    def pickled(self) -> Pickled:
        """Return what all pickles said; the object is the only one's, or all by the names of their records."""
        found = Pickled(*self.results.values())
        found.mentioned = [each for each in found.mentioned if each.pair not in _REDUCERS | JIT_PAIRS]
        own = {name: result.root for name, result in self.results.items() if not _SCRIPT.fullmatch(name)}
        found.root = DictNode(list(own.items())) if len(own) > 1 else next(iter(own.values()), None)
        return found

    def find_storages(self) -> dict[str, StorageRecord]:
        """Return the storages of all pickles by key."""
        return find_storages(self._archive, self._table, ".data/{}.storage")

    def own_key(self, key: str) -> str:
        """Return the number in the name of a storage's record."""
        return self._table.own_key(key)

    def _load(self, identity: Node) -> Node:
        """Return what a persistent id names: a storage, or an object that a function of its class rebuilds."""
        items: tuple[Node, ...] = identity.items if type(identity) is TupleNode else ()
        if not items or not isinstance(items[0], str) or items[0] != "reduce_package":
            return self._table.add(identity)
        if len(items) < _MEMBERS or type(items[1]) is not int or type(items[2]) is not Global:
            raise MalformedArtifactError("The package has a persistent id that is not one of an object.")
        arguments = items[3].items if len(items) > _MEMBERS and type(items[3]) is TupleNode else ()
        return self._reduced.setdefault(items[1], Call(items[2], arguments))
