"""Tensors over the storages of a file: strided views, and what is composed of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch

from registry.errors import MalformedArtifactError, UnsupportedValueError
from registry.torch.storages import FileStorages

_torch: Any = torch
"""torch's annotations leave out what `torch.load` itself calls to make composed tensors."""
_PER_CHANNEL = {torch.per_channel_affine, torch.per_channel_affine_float_qparams}
_COMPRESSED_LAYOUTS = {torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}


class View(NamedTuple):
    """Where the elements of a strided tensor lie; offset, shape and stride in elements of `dtype`."""

    key: str
    dtype: torch.dtype
    offset: int
    shape: Sequence[int]
    stride: Sequence[int]


class TensorMaker:
    """Makes the tensors of one file.

    Args:
        storages: those of the file.
        dtype: what floating-point tensors are converted to while `casting` is on; None keeps them.

    Attributes:
        casting: whether tensors made now are converted; components of quantised tensors and entries never are.
    """

    def __init__(self, storages: FileStorages, dtype: torch.dtype | None = None) -> None:
        self.storages = storages
        self.casting = False
        self._dtype = dtype
        self._empty: dict[torch.dtype, torch.Tensor] = {}

    def strided(self, view: View) -> torch.Tensor:
        """Return the tensor that views a storage, sharing memory with every other view of it.

        Raises:
            MalformedArtifactError: the view reaches beyond the storage.
        """
        storage = self._checked_storage(view)
        dtype = view.dtype
        if self.casting and self._dtype is not None and dtype.is_floating_point and dtype != self._dtype:
            storage, dtype = self.storages.get_cast(view.key, dtype, self._dtype), self._dtype
        empty = self._empty.get(dtype)
        if empty is None:
            empty = self._empty[dtype] = torch.empty(0, dtype=dtype, device=self.storages.device)
        # `torch.empty` takes three times as long, which is half the time of making thousands of tensors.
        return empty.new_empty(0).set_(storage, view.offset, tuple(view.shape), tuple(view.stride))

    def quantised(self, view: View, parameters: Sequence[Any]) -> torch.Tensor:
        """Return a quantised tensor.

        Args:
            view: of the integers.
            parameters: as torch writes them: `(scheme, scale, zero_point)` or `(scheme, scales, zero_points, axis)`.

        Raises:
            MalformedArtifactError: the parameters do not fit the shape.
            UnsupportedValueError: the scheme has no tensors in torch.
        """
        storage = self._checked_storage(view)
        device, scheme = self.storages.device, parameters[0]
        if scheme == torch.per_tensor_affine:
            _, scale, zero_point = parameters
            empty = _torch._empty_affine_quantized(  # noqa: SLF001 - there is no public one
                view.shape, scale=scale, zero_point=zero_point, dtype=view.dtype, device=device
            )
        elif scheme in _PER_CHANNEL:
            empty = self._empty_per_channel(view, parameters)
        else:
            raise UnsupportedValueError(f"Quantised tensors of the scheme {scheme} cannot be restored.")
        return empty.set_(storage, view.offset, tuple(view.shape), tuple(view.stride))

    def _empty_per_channel(self, view: View, parameters: Sequence[Any]) -> torch.Tensor:
        scheme, scales, zero_points, axis = parameters
        device = self.storages.device
        if not isinstance(scales, torch.Tensor):
            # Tensors keep their dtypes: torch writes `per_channel_affine` of float parameters too and tells by these.
            exact = scheme == torch.per_channel_affine
            scales = torch.as_tensor(scales, dtype=torch.float64 if exact else torch.float32, device=device)
            zero_points = torch.as_tensor(zero_points, dtype=torch.int64 if exact else torch.float32, device=device)
        # torch itself checks neither, and would read beyond the end of the scales.
        if not 0 <= axis < len(view.shape) or {scales.numel(), zero_points.numel()} != {view.shape[axis]}:
            raise MalformedArtifactError("The scales of a quantised tensor do not fit its shape.")
        return _torch._empty_per_channel_affine_quantized(  # noqa: SLF001 - there is no public one
            view.shape, scales=scales, zero_points=zero_points, axis=axis, dtype=view.dtype, device=device
        )

    def _checked_storage(self, view: View) -> torch.UntypedStorage:
        storage = self.storages.get(view.key)
        if 0 not in view.shape:
            reach = 0
            for size, step in zip(view.shape, view.stride, strict=True):
                reach += (size - 1) * step
            # `set_` would enlarge a storage that is too small and show uninitialised memory.
            if (
                min(view.offset, reach, *view.stride, 0)
                or (view.offset + reach + 1) * view.dtype.itemsize > storage.nbytes()
            ):
                raise MalformedArtifactError(f"A tensor reaches beyond the end of its storage {view.key!r}.")
        return storage


def sparse(layout: torch.layout, data: Sequence[Any]) -> torch.Tensor:
    """Return a sparse tensor of what torch writes of one; its invariants are checked.

    Args:
        layout: `torch.sparse_coo` or a compressed one.
        data: `(indices, values, size[, is_coalesced])`, or `(compressed, plain, values, size)`.

    Raises:
        MalformedArtifactError: the indices do not fit.
    """
    try:
        if layout == torch.sparse_coo:
            indices, values, size, *coalesced = data
            known = coalesced[0] if coalesced else None
            return _torch.sparse_coo_tensor(indices, values, size, check_invariants=True, is_coalesced=known)
        if layout in _COMPRESSED_LAYOUTS:
            compressed, plain, values, size = data
            return _torch.sparse_compressed_tensor(
                compressed, plain, values, size, layout=layout, check_invariants=True
            )
    except RuntimeError as error:
        raise MalformedArtifactError(f"A sparse tensor contradicts itself: {error}") from error
    raise UnsupportedValueError(f"Tensors of the layout {layout} cannot be restored.")


def nested(buffer: torch.Tensor, sizes: torch.Tensor, strides: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Return a nested tensor over a flat buffer.

    Args:
        buffer: the values, 1-dimensional.
        sizes: int64, a row a component.
        strides: int64, a row a component.
        offsets: int64, where each component starts.

    Raises:
        MalformedArtifactError: a component reaches beyond the buffer, which torch does not check.
    """
    rows: Any = zip(*(cast("Any", each).tolist() for each in (sizes, strides, offsets)), strict=True)
    for size, stride, offset in rows:
        if 0 in size:
            continue
        reach = sum((dim - 1) * step for dim, step in zip(size, stride, strict=True))
        if min(offset, *size, *stride) < 0 or offset + reach + 1 > buffer.numel():
            raise MalformedArtifactError("A nested tensor reaches beyond the end of its buffer.")
    return _torch._nested_view_from_buffer(buffer, sizes, strides, offsets)  # noqa: SLF001 - what torch.load calls


def set_lazy_bits(tensor: torch.Tensor, bits: dict[str, bool] | None = None) -> None:
    """Mark a tensor as lazily conjugated or negated: `{"conj": True, "neg": True}`."""
    wanted = {name: True for name in ("conj", "neg") if (bits or {}).get(name)}
    if wanted:
        _torch._utils.set_tensor_metadata(tensor, wanted)  # noqa: SLF001 - what torch.load calls
