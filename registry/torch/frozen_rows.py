"""Freezing some rows of a tensor: their gradient is made zero before it is accumulated.

The hook belongs to one tensor object, and neither copying nor pickling keeps it. So the mask lies in the module beside
the tensor, and hooks itself to the tensor's copy when it is copied or unpickled with it.
"""

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

Ranges = Sequence[tuple[int, int]]
"""Half-open ranges of indices of dimension 0."""


class FrozenRows:
    """Keeps the gradient of some rows of a parameter at zero.

    An optimizer that moves parameters without a gradient moves these rows too: weight decay must be 0 for the
    tensor, and the optimizer must be new or without momentum for it.

    Args:
        parameter: what is hooked.
        ranges: the frozen rows.
    """

    def __init__(self, parameter: nn.Parameter, ranges: Ranges) -> None:
        self.ranges = [(int(start), int(stop)) for start, stop in ranges]
        self._hooked: weakref.ref[nn.Parameter] | None = None
        self._handle: RemovableHandle | None = None
        self.hook(parameter)

    def hook(self, parameter: nn.Parameter) -> None:
        """Move to another tensor when it is one: `to_empty` and `load_state_dict(assign=True)` make new ones."""
        if self.is_on(parameter) or not parameter.requires_grad:
            return
        self.remove()
        self._handle = cast("RemovableHandle", cast("Any", parameter).register_hook(_Mask(self.ranges)))
        self._hooked = weakref.ref(parameter)

    def is_on(self, parameter: nn.Parameter) -> bool:
        """Return whether the gradient of this very tensor is masked."""
        return self._hooked is not None and self._hooked() is parameter

    def remove(self) -> None:
        """Let the rows train again."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._hooked = None

    def __getstate__(self) -> dict[str, Any]:
        return {"ranges": self.ranges, "parameter": self._hooked() if self._hooked is not None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copying and unpickling give the same new tensor here as in the module.
        self.ranges = state["ranges"]
        self._hooked = self._handle = None
        if state["parameter"] is not None:
            self.hook(state["parameter"])


class _Mask:
    """The hook: gradient in, gradient without the frozen rows out."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        if gradient.is_sparse:
            return _masked_sparse(gradient.coalesce(), self.ranges)
        masked = gradient.clone()
        for start, stop in self.ranges:
            masked[start:stop] = 0
        return masked


def _masked_sparse(gradient: torch.Tensor, ranges: Ranges) -> torch.Tensor:
    indices, values = gradient.indices(), gradient.values()
    rows = indices[0]
    kept = torch.ones_like(rows, dtype=torch.bool)
    for start, stop in ranges:
        kept &= (rows < start) | (rows >= stop)
    sparse = cast("Any", torch).sparse_coo_tensor
    # Rows were only taken out of a valid tensor; torch warns when nobody says whether to check.
    return sparse(indices[:, kept], values[kept], gradient.shape, is_coalesced=True, check_invariants=False)
