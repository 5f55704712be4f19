"""What a network is made of, without its values: names, shapes, dtypes, ties, and the tree of its modules.

An architecture comes from a weight file's inspection, from JSON, or (in `registry.torch`) from an `nn.Module`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from registry.errors import InvalidMetadataError
from registry.formats.inspection import Inspection, TensorRecord
from registry.formats.wire import inspection_from_json
from registry.state_dict import choose_part, is_of_part, metadata_of, name_in_part
from registry.tensor_names import Endings, unwrap
from registry.tensor_spec import TensorRole, TensorSpec, parameter_sizes, spec_from_json, spec_to_json

_TELLING = 3
"""From this many tensors on, sorted names tell that a file was sorted."""


@dataclass(slots=True)
class Subtree:
    """A module of the tree: its tensors, its children, and a digest that does not depend on where it hangs.

    Attributes:
        prefix: the module's name with a trailing dot; empty for the root.
        leaves: its own tensors by their last name.
        children: its submodules by their last name.
        digest: over sorted names below the prefix and shapes; equal digests mean equal names and shapes.
        tensor_count: tensors in the whole subtree.
    """

    prefix: str
    leaves: dict[str, TensorSpec] = field(default_factory=dict[str, TensorSpec])
    children: dict[str, "Subtree"] = field(default_factory=dict[str, "Subtree"])
    digest: str = ""
    tensor_count: int = 0


class Architecture:
    """The tensors of a state_dict in order, what else it holds, and the tree of modules they hang in.

    Args:
        tensors: in stored order, names unique.
        entries: names of non-tensor values (`_extra_state`).
        metadata: torch's `_metadata`: module name → `{"version": 2}`; torch's own load rules read it. None when the
            source has none at all (a plain safetensors file).
    """

    def __init__(
        self,
        tensors: Iterable[TensorSpec],
        *,
        entries: Iterable[str] = (),
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.tensors: dict[str, TensorSpec] = {each.name: each for each in tensors}
        self.entries = tuple(entries)
        self.metadata = None if metadata is None else {name: dict(values) for name, values in metadata.items()}

    @classmethod
    def from_inspection(
        cls, inspection: Inspection, part: str | None = None, *, digests: Sequence[str | None] | None = None
    ) -> "Architecture":
        """Return the architecture of one state_dict of a weight file.

        Args:
            inspection: what a reader reported.
            part: the state_dict inside a checkpoint; None takes the default one.
            digests: of the inspection's tensors, in their order, where somebody computed them.

        Raises:
            NoWeightsError, AmbiguousWeightsError: see `choose_part`.
        """
        part = choose_part(inspection, part)
        known = digests or [None] * len(inspection.tensors)
        chosen = [
            (each, digest) for each, digest in zip(inspection.tensors, known, strict=True) if is_of_part(each, part)
        ]
        ties = _find_ties(each for each, _ in chosen)
        return cls(
            (_spec_of(each, name_in_part(each.name, part), ties, digest) for each, digest in chosen),
            entries=(name_in_part(each.name, part) for each in inspection.entries if each.part == part),
            metadata=metadata_of(inspection, part),
        )

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], part: str | None = None) -> "Architecture":
        """Return the architecture of one state_dict of an artifact, with the digests that its manifest carries.

        Raises:
            MalformedArtifactError: this is no manifest.
            NoWeightsError, AmbiguousWeightsError: see `choose_part`.
        """
        inspection = inspection_from_json(dict(manifest))
        return cls.from_inspection(inspection, part, digests=[each.get("digest") for each in manifest["tensors"]])

    @classmethod
    def join(cls, shards: Sequence["Architecture"]) -> "Architecture":
        """Return the architecture of a state_dict that is kept in several files."""
        if len(shards) == 1:
            return shards[0]
        known = [each.metadata for each in shards if each.metadata is not None]
        return cls(
            (spec for each in shards for spec in each.tensors.values()),
            entries=(entry for each in shards for entry in each.entries),
            metadata={name: values for each in known for name, values in each.items()} if known else None,
        )

    @classmethod
    def from_json(cls, document: Any) -> "Architecture":
        """Return the architecture that `to_json` wrote.

        Raises:
            InvalidMetadataError: the document is no architecture; the detail says where.
        """
        try:
            specs = [spec_from_json(each) for each in document["tensors"]]
            entries = [str(each) for each in document.get("entries", [])]
            metadata = document.get("metadata")
            architecture = cls(specs, entries=entries, metadata=metadata)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidMetadataError(f"This is no architecture: {error!r}. Write one with `to_json`.") from error
        if len(architecture.tensors) != len(specs):
            raise InvalidMetadataError("This is no architecture: two tensors have one name.")
        return architecture

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON that `from_json` reads."""
        return {
            "tensors": [spec_to_json(each) for each in self.tensors.values()],
            "entries": list(self.entries),
            "metadata": self.metadata,
        }

    @cached_property
    def tree(self) -> Subtree:
        """The root of the module tree, with every digest computed."""
        root = Subtree("")
        for name, spec in self.tensors.items():
            node = root
            *modules, leaf = name.split(".")
            for module in modules:
                child = node.children.get(module)
                if child is None:
                    child = node.children[module] = Subtree(f"{node.prefix}{module}.")
                node = child
            node.leaves[leaf] = spec
        _digest(root)
        return root

    @cached_property
    def bare(self) -> Mapping[str, TensorSpec]:
        """The tensors by their names without what torch's wrappers insert: `tensors` itself where nothing is."""
        return unwrap(self.tensors)

    @cached_property
    def endings(self) -> Endings:
        """Which names of `bare` end alike."""
        return Endings(self.bare)

    def iter_subtrees(self) -> Iterator[Subtree]:
        """Yield every module of the tree, parents before children."""
        waiting = [self.tree]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children.values()))

    @cached_property
    def is_ordered(self) -> bool:
        """Whether the tensors can stand in the order of their modules.

        Files of the safetensors library hold them sorted by dtype and name, which says nothing about what comes last.
        """
        last: dict[str, str] = {}
        for name, spec in self.tensors.items():
            if last.get(spec.dtype, "") > name:
                return True
            last[spec.dtype] = name
        return len(self.tensors) < _TELLING

    @property
    def digest(self) -> str:
        """The root's digest: equal for architectures with the same names and shapes."""
        return self.tree.digest

    @cached_property
    def parameter_sizes(self) -> Mapping[str, int]:
        """Elements of the distinct tensors that are not known to be buffers, by the first name of each."""
        return parameter_sizes(self.tensors.values())

    @property
    def parameter_count(self) -> int:
        """Elements of distinct tensors that are not known to be buffers."""
        return sum(self.parameter_sizes.values())


def _digest(root: Subtree) -> None:
    """Fill in digests and counts bottom up, without recursion (names may be deep)."""
    ordered: list[Subtree] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        ordered.append(node)
        waiting.extend(node.children.values())
    for node in reversed(ordered):
        hasher = hashlib.blake2b(digest_size=16)
        for leaf in sorted(node.leaves):
            hasher.update(f"t{leaf}\0{node.leaves[leaf].shape}\0".encode("utf-8", "surrogatepass"))
        for name in sorted(node.children):
            hasher.update(f"m{name}\0{node.children[name].digest}\0".encode("utf-8", "surrogatepass"))
        node.digest = hasher.hexdigest()
        node.tensor_count = len(node.leaves) + sum(child.tensor_count for child in node.children.values())


def _find_ties(tensors: Iterable[TensorRecord]) -> dict[str, str]:
    """Return, for tensors that are one and the same view of one storage, the name of the first of them."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for each in tensors:
        if each.storage_key is not None and each.nbytes:
            view = (each.storage_key, each.storage_offset, each.shape, each.stride)
            groups.setdefault(view, []).append(each.name)
    return {name: names[0] for names in groups.values() if len(names) > 1 for name in names}


def _spec_of(record: TensorRecord, name: str, ties: Mapping[str, str], digest: str | None) -> TensorSpec:
    role: TensorRole = "unknown"
    if record.role == "parameter":
        role = "parameter"
    elif record.role == "buffer":
        role = "buffer"
    return TensorSpec(
        name=name,
        shape=record.shape,
        dtype=record.dtype,
        role=role,
        tie=ties.get(record.name),
        layout=record.layout,
        quantised=record.quantisation is not None,
        digest=digest,
    )
