"""A tensor as a file describes it, before it has a name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.formats.inspection import PathKey, Role, TensorRecord


@dataclass(eq=False, slots=True)
class TensorFacts:
    """A tensor as it was rebuilt, wherever it is kept; the attributes are those of `TensorRecord`. Never changed."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage_offset: int = 0
    storage_key: str | None = None
    file_offset: int | None = None
    nbytes: int = 0
    requires_grad: bool = False
    is_parameter: bool = False
    device: str = "cpu"
    layout: str = "strided"
    conj: bool = False
    neg: bool = False
    quantisation: dict[str, Any] | None = None
    components: dict[str, "TensorFacts"] | None = None

    def record(self, name: str, path: tuple[PathKey, ...], part: str | None, role: Role) -> TensorRecord:
        """Return the tensor under a name; what it is made of is named after it."""
        record = TensorRecord(
            name,
            path,
            part,
            self.dtype,
            self.shape,
            self.stride,
            self.storage_offset,
            self.storage_key,
            self.file_offset,
            self.nbytes,
            role,
            self.requires_grad,
            self.device,
            self.layout,
            self.conj,
            self.neg,
            self.quantisation,
        )
        if not self.components:
            return record
        components = {
            key: each.record(f"{name}.{key}", (*path, key), part, role) for key, each in self.components.items()
        }
        return record._replace(components=components)


def count_without_zeros(shape: Sequence[int]) -> int:
    """Return the product of the dimensions that are not 0, which torch wants in 64 bits also of an empty tensor."""
    return math.prod(max(each, 1) for each in shape)


def contiguous_stride(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the row-major stride of `shape`, in elements, as torch computes it (a length of 0 counts as 1)."""
    strides: list[int] = []
    step = 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(1, length)
    return tuple(reversed(strides))
