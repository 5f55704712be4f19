"""What torch's rebuild functions are given, taken as nothing but what torch gives them."""

from collections.abc import Sequence
from typing import NoReturn

from registry.errors import MalformedArtifactError
from registry.formats.facts import TensorFacts
from registry.formats.inert_names import DTYPE_BYTES, LAYOUTS
from registry.formats.nodes import Global, Node
from registry.formats.values import as_pairs, function_name

_MAX_INT64 = (1 << 63) - 1


def refuse_tensor(reason: str) -> NoReturn:
    """Raise `MalformedArtifactError` with a sentence about a tensor."""
    raise MalformedArtifactError(f"A tensor of the file is not one that torch writes: {reason}.")


def exactly(values: Sequence[Node], *counts: int) -> Sequence[Node]:
    """Return the values, of which there must be one of these numbers."""
    if len(values) not in counts:
        refuse_tensor("it is rebuilt from a wrong number of values")
    return values


def count(node: Node) -> int:
    """Return a non-negative integer that fits into torch's `int64_t`; booleans are none."""
    if type(node) is not int or node < 0:
        refuse_tensor("a size, stride or offset is no non-negative integer")
    if node > _MAX_INT64:
        refuse_tensor("a size, stride or offset does not fit into 64 bits")
    return node


def truth(node: Node) -> bool:
    """Return a boolean."""
    if type(node) is not bool:
        refuse_tensor("its requires_grad is neither True nor False")
    return node


def check_hooks(node: Node) -> None:
    """Refuse backward hooks: torch writes an empty OrderedDict, or nothing."""
    if node is not None and as_pairs(node) != []:
        refuse_tensor("it has backward hooks")


def gradient(node: Node, dtype: str) -> bool:
    """Return whether it requires a gradient, which only numbers with a point can."""
    if truth(node) and not dtype.startswith(("float", "bfloat", "complex")):
        refuse_tensor(f"it is {dtype} and requires a gradient")
    return node


def check_channels(facts: TensorFacts, scales: TensorFacts, zero_points: TensorFacts, axis: int) -> None:
    """Refuse scales and zero points of a quantised tensor that are not one number for each index of its axis.

    Releases of torch that do not look at this read beyond the end of the scales.
    """
    if axis >= len(facts.shape):
        refuse_tensor("its quantisation axis does not exist")
    shape = (facts.shape[axis],)
    if scales.shape != shape or zero_points.shape != shape or scales.dtype not in {"float32", "float64"}:
        refuse_tensor("its scales or zero points are not one number for each index of the axis")


def dtype_name(node: Node) -> str:
    """Return the name of a dtype (`float32`)."""
    if type(node) is not Global or node.module != "torch" or node.name not in DTYPE_BYTES:
        refuse_tensor("its dtype is unknown")
    return node.name


def layout_name(node: Node) -> str:
    """Return the name of a layout (`sparse_coo`)."""
    argument = node.arguments[0] if function_name(node) == "torch.serialization._get_layout" else None
    layout = argument.removeprefix("torch.") if isinstance(argument, str) else ""
    if layout not in LAYOUTS:
        refuse_tensor("its layout is unknown")
    return layout
