"""From what a pickle said to the report on its file: verdict, tensors and names. Shared by all torch formats."""

from typing import NoReturn

from registry.errors import MalformedArtifactError
from registry.formats.inspection import Document, Inspection, StorageRecord
from registry.formats.limits import Limits
from registry.formats.machine import MachineResult, refuse_if_dangerous
from registry.formats.tensors import TensorDecoder
from registry.formats.tree import read_tree
from registry.formats.verdict import judge


class Pickled:
    """What the pickles of one file said, the last one holding the object."""

    def __init__(self, *results: MachineResult) -> None:
        self.root = results[-1].root if results else None
        self.mentioned = [each for result in results for each in result.globals]
        self.calls = [call for result in results for call in result.calls]
        self.dangers = [danger for result in results for danger in result.dangers]

    def refuse_if_dangerous(self, problem: str) -> None:
        """Raise `UnsafeArtifactError` for a file with a `problem` if it also mentions something that does harm."""
        refuse_if_dangerous(self.mentioned, self.dangers, problem)

    def refuse(self, problem: str) -> NoReturn:
        """Raise `UnsafeArtifactError` if the file mentions something that does harm, else `MalformedArtifactError`."""
        self.refuse_if_dangerous(problem)
        raise MalformedArtifactError(problem)


def describe(inspection: Inspection, pickled: Pickled, storages: dict[str, StorageRecord], limits: Limits) -> Document:
    """Complete `inspection` with verdict, storages, tensors and names, and return it with the object graph.

    Raises:
        MalformedArtifactError: a tensor does not fit its storage, or a limit is exceeded.
    """
    verdict = judge(pickled.mentioned, pickled.calls, pickled.dangers, limits)
    decoder = TensorDecoder(storages, limits)
    decoder.decode(pickled.calls)
    tree = read_tree(pickled.root, decoder.facts, limits)
    inspection.kind = tree.kind
    inspection.trust = verdict.trust
    inspection.reasons = verdict.reasons
    inspection.globals = verdict.globals
    inspection.foreign_globals = verdict.foreign_globals
    inspection.storages = list(storages.values())
    inspection.tensors = tree.tensors
    inspection.entries = tree.entries
    inspection.scalars = tree.scalars
    inspection.parts = tree.parts
    inspection.metadata = tree.metadata
    return Document(inspection, pickled.root)
