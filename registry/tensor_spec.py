"""One tensor of a network, without its values: what architectures are made of."""

from collections.abc import Iterable
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

TensorRole: TypeAlias = Literal["parameter", "buffer", "unknown"]


class TensorSpec(NamedTuple):
    """One tensor of a state_dict: a tuple, since a search makes many thousands.

    Attributes:
        name: its key in the state_dict.
        shape: sizes in elements; `()` is a scalar.
        dtype: as in `torch.float32`, without the prefix.
        role: what it is to the module; `unknown` where a state_dict does not tell.
        tie: equal for tensors that share all their values (tied weights); None when it shares with nobody.
        layout: `strided`, `sparse_coo`, …
        quantised: whether the values are quantised.
        digest: BLAKE3 over the row-major bytes, where somebody computed it; it is no part of the architecture.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: TensorRole = "unknown"
    tie: str | None = None
    layout: str = "strided"
    quantised: bool = False
    digest: str | None = None

    @property
    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)


def parameter_sizes(specs: Iterable[TensorSpec]) -> dict[str, int]:
    """Return the elements of distinct tensors that are not known to be buffers, by the first name of each."""
    seen: set[str] = set()
    sizes: dict[str, int] = {}
    for spec in specs:
        if spec.role == "buffer" or spec.tie in seen:
            continue
        if spec.tie is not None:
            seen.add(spec.tie)
        sizes[spec.name] = prod(spec.shape)
    return sizes


def count_parameters(specs: Iterable[TensorSpec]) -> int:
    """Return the elements of distinct tensors that are not known to be buffers."""
    return sum(parameter_sizes(specs).values())


def spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    """Return plain JSON that `spec_from_json` reads; what is as usual is left out."""
    described: dict[str, Any] = {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype}
    if spec.role != "unknown":
        described["role"] = spec.role
    if spec.tie is not None:
        described["tie"] = spec.tie
    if spec.layout != "strided":
        described["layout"] = spec.layout
    if spec.quantised:
        described["quantised"] = True
    return described


def spec_from_json(described: Any) -> TensorSpec:
    """Return the tensor that `spec_to_json` described.

    Raises:
        KeyError, TypeError, ValueError: it describes none.
    """
    shape = tuple(described["shape"])
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"shape {list(shape)!r}")
    role = described.get("role", "unknown")
    if role not in {"parameter", "buffer", "unknown"}:
        raise ValueError(f"role {role!r}")
    return TensorSpec(
        name=str(described["name"]),
        shape=shape,
        dtype=str(described["dtype"]),
        role=role,
        tie=described.get("tie"),
        layout=str(described.get("layout", "strided")),
        quantised=bool(described.get("quantised", False)),
    )
