"""Which live tensors share memory, and copies of views that would drag a larger storage into a file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

_WASTE = 4
_NEVER_WASTE_BYTES = 4096
"""Strides are kept as long as the bytes between the values cost less than `_WASTE` times the values, or little."""


@dataclass(slots=True)
class Cluster:
    """Tensors whose bytes overlap in one storage, and the bytes `start` to `stop` that they span together."""

    storage: torch.UntypedStorage
    start: int
    stop: int
    tensors: list[torch.Tensor] = field(default_factory=list[torch.Tensor])

    @property
    def tied(self) -> bool:
        """Whether changing one of the tensors would change another."""
        return len(self.tensors) > 1


def find_clusters(tensors: Iterable[torch.Tensor]) -> Iterator[list[Cluster]]:
    """Yield the clusters of each storage, in the order of their bytes; tensors without a storage are left out."""
    by_storage: dict[tuple[str, int], list[Cluster]] = {}
    for tensor in {id(each): each for each in tensors}.values():
        if not _is_strided(tensor) or not tensor.numel():
            continue
        start, stop = _span(tensor)
        storage = tensor.untyped_storage()
        key = str(storage.device), storage.data_ptr()
        by_storage.setdefault(key, []).append(Cluster(storage, start, stop, [tensor]))
    for single in by_storage.values():
        yield _merge(sorted(single, key=lambda each: each.start))


def _merge(singles: list[Cluster]) -> list[Cluster]:
    merged = singles[:1]
    for each in singles[1:]:
        last = merged[-1]
        if each.start < last.stop:
            last.stop = max(last.stop, each.stop)
            last.tensors += each.tensors
        else:
            merged.append(each)
    return merged


def _is_strided(tensor: torch.Tensor) -> bool:
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
    return plain and type(tensor) in {torch.Tensor, nn.Parameter}


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first byte of a non-empty tensor in its storage, and the one after its last."""
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset())
    return start * tensor.itemsize, (start + reach + 1) * tensor.itemsize


def compact_views(tensors: Iterable[torch.Tensor]) -> dict[int, torch.Tensor]:
    """Return copies, by `id`, of the tensors whose storage holds more than they and their like view.

    Tensors that overlap are copied together and overlap again. A storage that the tensors cover as a whole
    stays, so that parameters in one flat buffer cost no second copy of it.
    """
    copies: dict[int, torch.Tensor] = {}
    for clusters in find_clusters(tensors):
        covered = sum(each.stop - each.start for each in clusters)
        if covered != clusters[0].storage.nbytes() or any(_is_wasteful(each) for each in clusters):
            copies.update(_copy_clusters(clusters))
    return copies


def _copy_clusters(clusters: Iterable[Cluster]) -> Iterator[tuple[int, torch.Tensor]]:
    for cluster in clusters:
        if _is_wasteful(cluster):
            (tensor,) = cluster.tensors
            yield id(tensor), _dressed_as(tensor, tensor.detach().clone(memory_format=torch.contiguous_format))
            continue
        device = cluster.storage.device
        flat = torch.empty(0, dtype=torch.uint8, device=device)
        flat.set_(cluster.storage, cluster.start, (cluster.stop - cluster.start,), (1,))
        storage = flat.clone().untyped_storage()
        for tensor in cluster.tensors:
            offset = tensor.storage_offset() - cluster.start // tensor.itemsize
            empty = torch.empty(0, dtype=tensor.dtype, device=device)
            yield id(tensor), _dressed_as(tensor, empty.set_(storage, offset, tensor.shape, tensor.stride()))


def _is_wasteful(cluster: Cluster) -> bool:
    """Return whether a lone tensor has few of the bytes that it spans, as a column of a matrix: worth its strides?"""
    if cluster.tied:
        return False
    tensor = cluster.tensors[0]
    values = tensor.numel() * tensor.itemsize
    return cluster.stop - cluster.start > max(_WASTE * values, _NEVER_WASTE_BYTES)


def _dressed_as(tensor: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    """Return the copy with the class, lazy bits, gradient flag and Python attributes of a tensor."""
    if tensor.is_conj() != copy.is_conj():
        copy = copy.conj()
    if tensor.is_neg() != copy.is_neg():
        copy = cast("Any", torch)._neg_view(copy)  # noqa: SLF001 - there is no public way to set the bit
    if isinstance(tensor, nn.Parameter):
        copy = nn.Parameter(copy, tensor.requires_grad)
    else:
        copy.requires_grad_(tensor.requires_grad)
    vars(copy).update(vars(tensor))
    return copy
