"""From what a pickle said to the report on its file: verdict, tensors and names. Shared by all torch formats."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from registry.errors import MalformedArtifactError
from registry.formats.inspection import Document, Inspection, StorageRecord
from registry.formats.limits import Limits
from registry.formats.machine import MachineResult, refuse_if_dangerous
from registry.formats.nodes import Call, Global
from registry.formats.tensors import TensorDecoder
from registry.formats.tree import read_tree
from registry.formats.verdict import judge


class Pickled:
    """What the pickles of one file said, the last one holding the object."""

    def __init__(self, *results: MachineResult) -> None:
        self.root = results[-1].root if results else None
        self.mentioned: list[Global] = [each for result in results for each in result.globals]
        self.calls: list[Call] = [call for result in results for call in result.calls]
        self.dangers: list[str] = [danger for result in results for danger in result.dangers]

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Make a file that turns out malformed unsafe, when its pickles mention something that does harm.

        Raises:
            UnsafeArtifactError: in place of `MalformedArtifactError`.
        """
        try:
            yield
        except MalformedArtifactError as error:
            refuse_if_dangerous(self.mentioned, self.dangers, error.detail)
            raise


def describe(
    inspection: Inspection, pickled: Pickled, storages: dict[str, StorageRecord], limits: Limits
) -> Document:
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


def all_results(results: Sequence[MachineResult]) -> Pickled:
    """Return what several pickles of one file said; the object is the last one's."""
    return Pickled(*results)
