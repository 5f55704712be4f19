"""What the modules of an architecture weigh: tensors, parameters, bytes, share. From names and shapes alone."""

from dataclasses import dataclass
from math import prod

from registry.architecture import Architecture, Subtree
from registry.formats.inert_names import DTYPE_BYTES
from registry.tensor_spec import TensorSpec


@dataclass(frozen=True, slots=True)
class ModuleSummary:
    """One module and everything below it; what several names share counts once, where it is met first.

    Attributes:
        name: empty for the root.
        tensor_count: of all tensors below it.
        parameter_count: elements that are not known to be buffers.
        size_bytes: of the values, in the dtypes that they have.
        share: of the root's bytes, 0 to 1.
        digest: equal for modules with the same names and shapes, wherever they hang.
        own: whether it has tensors itself, and not only below.
    """

    name: str
    tensor_count: int
    parameter_count: int
    size_bytes: int
    share: float
    digest: str
    own: bool


def summarise(architecture: Architecture) -> list[ModuleSummary]:
    """Return every module of the tree, parents before children, the root first."""
    nodes = list(architecture.iter_subtrees())
    counted = _first_of_ties(architecture)
    sums: dict[str, tuple[int, int]] = {}
    for node in reversed(nodes):
        parameters = nbytes = 0
        for spec in node.leaves.values():
            if spec.name in counted:
                parameters += 0 if spec.role == "buffer" else prod(spec.shape)
                nbytes += size_of(spec)
        for child in node.children.values():
            parameters += sums[child.prefix][0]
            nbytes += sums[child.prefix][1]
        sums[node.prefix] = (parameters, nbytes)
    total = sums[""][1] or 1
    return [_summary(node, *sums[node.prefix], total) for node in nodes]


def size_of(spec: TensorSpec) -> int:
    """Return the bytes of a tensor's values; 0 for a dtype whose size is not known."""
    return prod(spec.shape) * (16 if spec.dtype == "complex128" else DTYPE_BYTES.get(spec.dtype, 0))


def _summary(node: Subtree, parameters: int, nbytes: int, total: int) -> ModuleSummary:
    return ModuleSummary(
        name=node.prefix.removesuffix("."),
        tensor_count=node.tensor_count,
        parameter_count=parameters,
        size_bytes=nbytes,
        share=nbytes / total,
        digest=node.digest,
        own=bool(node.leaves),
    )


def _first_of_ties(architecture: Architecture) -> set[str]:
    seen: dict[str, str] = {}
    for name, spec in architecture.tensors.items():
        seen.setdefault(spec.tie or f"\0{name}", name)
    return set(seen.values())
