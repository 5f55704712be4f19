"""What torch's rebuild functions make, done again over the storages of a file; torch's own are never called."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch

from registry.errors import UnsupportedValueError
from registry.formats.nodes import Call, Global, Node, StorageRef
from registry.torch.storages import find_dtype
from registry.torch.tensors import TensorMaker, View, nested, set_lazy_bits, sparse

Rebuild: TypeAlias = Callable[[TensorMaker, Sequence[Any]], torch.Tensor]
"""Makes a tensor of the arguments that torch wrote: plain values, tensors, and storages as references."""


def is_rebuild(node: Node) -> bool:
    """Return whether a node is a call of a function that makes a tensor."""
    return isinstance(node, Call) and _find(node.function) is not None


def is_convertible(node: Node) -> bool:
    """Return whether a `dtype` asked for applies to the tensor that a node makes: not to a quantised one."""
    while is_rebuild(node) and node.arguments:
        makers = {_find(node.function), _find(node.arguments[0])}
        if _quantised in makers:
            return False
        node = node.arguments[0]
    return True


def _find(function: Node) -> Rebuild | None:
    return REBUILDS.get((function.module, function.name)) if isinstance(function, Global) else None


def view_of(storage: StorageRef, dtype: torch.dtype, offset: int, shape: Sequence[int], stride: Sequence[int]) -> View:
    """Return where the elements of a strided tensor lie."""
    # Old legacy files name a storage as a part of another one.
    start = storage.view[1] if storage.view is not None else 0
    return View(storage.key, dtype, start + offset, tuple(shape), tuple(stride))


def _tensor(maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    storage, *place = arguments
    return maker.strided(view_of(storage, find_dtype(storage.dtype), *place))


def _tensor_v2(maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    *place, requires_grad, _hooks = arguments[:6]
    tensor = _tensor(maker, place)
    set_lazy_bits(tensor, *arguments[6:])
    return _with_grad(tensor, requires_grad=requires_grad)


def _tensor_v3(maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    storage, *place, requires_grad, _hooks, dtype = arguments[:7]
    tensor = maker.strided(view_of(storage, dtype, *place))
    set_lazy_bits(tensor, *arguments[7:])
    return _with_grad(tensor, requires_grad=requires_grad)


def _quantised(maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    storage, *place, parameters, requires_grad, _hooks = arguments
    tensor = maker.quantised(view_of(storage, find_dtype(storage.dtype), *place), parameters)
    return _with_grad(tensor, requires_grad=requires_grad)


def _parameter(_maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    data, requires_grad, *rest = arguments
    return _with_attributes(torch.nn.Parameter(data, requires_grad), rest[1] if len(rest) > 1 else None)


def _sparse(_maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    layout, data = arguments
    return sparse(layout, data)


def _nested(_maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    buffer, sizes, strides, offsets = arguments
    return nested(buffer, sizes, strides, offsets)


def _meta(_maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    dtype, shape, stride, requires_grad = arguments
    tensor = torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype, device="meta")
    return _with_grad(tensor, requires_grad=requires_grad)


def _from_numpy(maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    data, *rest = arguments
    return _from_cpu(maker, (torch.as_tensor(data), *rest))


def _from_cpu(maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    data, dtype, _device, requires_grad = arguments
    return _with_grad(data.to(dtype=dtype, device=maker.storages.device), requires_grad=requires_grad)


def _from_type(maker: TensorMaker, arguments: Sequence[Any]) -> torch.Tensor:
    function, kind, inner, state = arguments
    rebuild = _find(function)
    if rebuild is None:
        raise UnsupportedValueError(f"A tensor is made by {function}, which is none of torch's rebuild functions.")
    tensor = rebuild(maker, inner)
    return _with_attributes(tensor if type(tensor) is kind else tensor.as_subclass(kind), state)


def _with_grad(tensor: torch.Tensor, *, requires_grad: bool) -> torch.Tensor:
    return tensor.requires_grad_() if requires_grad else tensor


def _with_attributes(tensor: torch.Tensor, state: Any) -> torch.Tensor:
    """Set the Python attributes that were pickled with a tensor: a dict, or a pair of one and another for slots."""
    states = cast("tuple[Any, ...]", state) if isinstance(state, tuple) else (state,)
    for each in states:
        # Into the dict, never by setattr: a file must not reach properties such as `data`.
        vars(tensor).update(each or {})
    return tensor


REBUILDS: dict[tuple[str, str], Rebuild] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_qtensor"): _quantised,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._utils", "_rebuild_sparse_tensor"): _sparse,
    ("torch._utils", "_rebuild_nested_tensor"): _nested,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _meta,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _from_numpy,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _from_cpu,
    ("torch._utils", "_rebuild_xla_tensor"): _from_cpu,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
}
"""By module and name of torch's function."""
