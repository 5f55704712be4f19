"""torch's rebuild functions, read as facts about tensors; every view is checked against its storage."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from registry.formats.allow_list import standing
from registry.formats.display import quote_name
from registry.formats.facts import TensorFacts, contiguous_stride, count_without_zeros
from registry.formats.inert_names import (
    DTYPE_BYTES,
    PACKED_ELEMENTS,
    QUANTISED_DTYPES,
    REBUILD_FROM_TYPE,
    REBUILD_FUNCTIONS,
)
from registry.formats.inspection import StorageRecord
from registry.formats.limits import Limits
from registry.formats.nodes import Call, Global, Node, StorageRef, TupleNode
from registry.formats.tensor_arguments import (
    check_channels,
    check_hooks,
    count,
    dtype_name,
    exactly,
    gradient,
    layout_name,
    refuse_tensor,
    truth,
)
from registry.formats.values import as_pairs, called_pair, function_name, numpy_dtype

_PARAMETER = ("torch.nn.parameter", "Parameter")


class TensorDecoder:
    """Reads the calls of one file.

    Args:
        storages: the file's storages by key.
        limits: bounds on dimensions and elements.

    Attributes:
        facts: what was read, by the identity of the call.
    """

    def __init__(self, storages: Mapping[str, StorageRecord], limits: Limits) -> None:
        self._storages = storages
        self._limits = limits
        self.facts: dict[int, TensorFacts] = {}
        readers = {
            "_rebuild_tensor": self._tensor,
            "_rebuild_tensor_v2": self._tensor_v2,
            "_rebuild_tensor_v3": self._tensor_v3,
            "_rebuild_parameter": self._parameter,
            "_rebuild_parameter_with_state": self._parameter,
            "_rebuild_qtensor": self._quantised,
            "_rebuild_sparse_tensor": self._sparse,
            "_rebuild_meta_tensor_no_storage": self._meta,
            "_rebuild_nested_tensor": self._nested,
            "_rebuild_wrapper_subclass": self._wrapper,
            "_rebuild_device_tensor_from_numpy": self._from_numpy,
            "_rebuild_device_tensor_from_cpu_tensor": self._from_cpu,
            "_rebuild_xla_tensor": self._from_cpu,
        }
        self._readers: dict[tuple[str, str], Callable[[Sequence[Node]], TensorFacts | None]] = {
            **{pair: readers[pair[1]] for pair in REBUILD_FUNCTIONS},
            REBUILD_FROM_TYPE: self._from_type,
        }

    def decode(self, calls: Sequence[Call]) -> None:
        """Read every call that makes a tensor, in the order they were made.

        Raises:
            MalformedArtifactError: a tensor does not fit its storage, or torch would not rebuild it.
        """
        for call in calls:
            facts = self._read(call)
            if facts is not None:
                if call.construct or call.keywords:
                    refuse_tensor("it is constructed instead of rebuilt")
                self.facts[id(call)] = facts

    def _read(self, call: Call) -> TensorFacts | None:
        pair = called_pair(call)
        if pair == _PARAMETER:
            return self._old_parameter(call)
        reader = self._readers.get(pair) if pair else None
        return reader(call.arguments) if reader else None

    def _of(self, node: Node) -> TensorFacts:
        found = self.facts.get(id(node)) if type(node) is Call else None
        if found is None:
            refuse_tensor("it is made of something that is no tensor")
        return found

    def _view(self, storage: Node, dtype: str, offset: Node, size: Node, stride: Node) -> TensorFacts:
        if type(storage) is not StorageRef:
            refuse_tensor("its storage is none")
        shape, strides = self._integers(size), self._integers(stride)
        start = count(offset)
        itemsize, packed = DTYPE_BYTES[dtype], PACKED_ELEMENTS.get(dtype, 1)
        record = self._storages[storage.key]
        first, available = 0, record.nbytes
        if storage.view is not None:
            first, available = storage.view[1], storage.view[2] * itemsize
        if len(shape) != len(strides):
            refuse_tensor("it has not as many strides as dimensions")
        elements = self._elements(shape)
        last = start
        for length, step in zip(shape, strides, strict=True):
            last += (length - 1) * step
        if elements and _bytes_of(last + 1, itemsize, packed) > available:
            refuse_tensor("it reaches beyond the end of its storage")
        start += first
        position = None
        if record.file_offset is not None and start % packed == 0:
            position = record.file_offset + start // packed * itemsize
        nbytes = _bytes_of(elements, itemsize, packed)
        return TensorFacts(dtype, shape, strides, start, storage.key, position, nbytes, device=storage.location)

    def _integers(self, node: Node) -> tuple[int, ...]:
        """Return the integers of a tuple or `torch.Size`."""
        if type(node) is Call and called_pair(node) == ("torch", "Size") and len(node.arguments) == 1:
            node = node.arguments[0]
        if type(node) is not TupleNode:
            refuse_tensor("its shape is no tuple")
        if len(node.items) > self._limits.dimensions:
            refuse_tensor(f"it has more than {self._limits.dimensions} dimensions")
        return tuple(map(count, node.items))

    def _elements(self, shape: tuple[int, ...]) -> int:
        elements = math.prod(shape)
        if (elements or count_without_zeros(shape)) >= self._limits.elements:
            refuse_tensor("it has too many elements")
        return elements

    def _tensor(self, arguments: Sequence[Node]) -> TensorFacts:
        storage, offset, size, stride = exactly(arguments, 4)
        if type(storage) is not StorageRef or storage.untyped or storage.dtype in QUANTISED_DTYPES:
            refuse_tensor("its storage has not the type of its elements")
        return self._view(storage, storage.dtype, offset, size, stride)

    def _tensor_v2(self, arguments: Sequence[Node]) -> TensorFacts:
        values = exactly(arguments, 6, 7)
        check_hooks(values[5])
        return _flagged(self._tensor(values[:4]), values[4], values[6:])

    def _tensor_v3(self, arguments: Sequence[Node]) -> TensorFacts:
        values = exactly(arguments, 7, 8)
        storage, offset, size, stride, requires_grad, hooks, dtype_node = values[:7]
        check_hooks(hooks)
        dtype = dtype_name(dtype_node)
        if type(storage) is not StorageRef or not storage.untyped or dtype in QUANTISED_DTYPES:
            refuse_tensor("its storage is not untyped")
        return _flagged(self._view(storage, dtype, offset, size, stride), requires_grad, values[7:])

    def _parameter(self, arguments: Sequence[Node]) -> TensorFacts:
        values = exactly(arguments, 3, 4)
        facts = self._of(values[0])
        check_hooks(values[2])
        return replace(facts, requires_grad=gradient(values[1], facts.dtype), is_parameter=True)

    def _old_parameter(self, call: Call) -> TensorFacts:
        """`Parameter(data[, requires_grad])`, then perhaps BUILD with (requires_grad, volatile, hooks): torch 0.3."""
        values = exactly(call.arguments, 1, 2)
        facts = self._of(values[0])
        requires_grad = gradient(values[1] if len(values) > 1 else True, facts.dtype)
        if call.has_state:
            state = call.state.items if type(call.state) is TupleNode else ()
            requires_grad = gradient(exactly(state, 3)[0], facts.dtype)
        return replace(facts, requires_grad=requires_grad, is_parameter=True)

    def _from_type(self, arguments: Sequence[Node]) -> TensorFacts | None:
        function, kind, inner, _ = exactly(arguments, 4)
        if type(function) is not Global or type(kind) is not Global or type(inner) is not TupleNode:
            refuse_tensor("it is rebuilt by something that is no function")
        pair = function.pair
        if pair not in REBUILD_FUNCTIONS:
            if standing(*pair) == "code":
                return None
            refuse_tensor(f"it is rebuilt by {quote_name(str(function))}")
        facts = self._readers[pair](inner.items)
        return replace(facts, is_parameter=True) if facts and kind.pair == _PARAMETER else facts

    def _quantised(self, arguments: Sequence[Node]) -> TensorFacts:
        storage, offset, size, stride, parameters, requires_grad, _ = exactly(arguments, 7)
        if type(storage) is not StorageRef or storage.dtype not in QUANTISED_DTYPES:
            refuse_tensor("its storage is not quantised")
        facts = _flagged(self._view(storage, storage.dtype, offset, size, stride), requires_grad, ())
        values = parameters.items if type(parameters) is TupleNode else ()
        scheme = values[0].name if values and type(values[0]) is Global and values[0].module == "torch" else ""
        if scheme == "per_tensor_affine":
            _, scale, zero_point = exactly(values, 3)
            if type(scale) is not float or type(zero_point) is not int:
                refuse_tensor("its scale is no number")
            return replace(facts, quantisation={"scheme": scheme, "scale": scale, "zero_point": zero_point})
        if scheme not in {"per_channel_affine", "per_channel_affine_float_qparams"}:
            refuse_tensor("its quantisation scheme is unknown")
        _, scales, zero_points, axis = exactly(values, 4)
        parts = {"scales": self._strided(scales), "zero_points": self._strided(zero_points)}
        check_channels(facts, parts["scales"], parts["zero_points"], count(axis))
        return replace(facts, quantisation={"scheme": scheme, "axis": axis}, components=parts)

    def _strided(self, node: Node) -> TensorFacts:
        facts = self._of(node)
        if facts.components or facts.layout != "strided":
            refuse_tensor("it is made of a tensor that is not dense")
        return facts

    def _sparse(self, arguments: Sequence[Node]) -> TensorFacts:
        layout_node, data = exactly(arguments, 2)
        layout = layout_name(layout_node)
        values = data.items if type(data) is TupleNode else ()
        if layout == "sparse_coo":
            indices, content, size, *_ = exactly(values, 3, 4)
            parts = {"indices": self._strided(indices), "values": self._strided(content)}
        else:
            compressed, plain, content, size = exactly(values, 4)
            names = (
                ("crow_indices", "col_indices")
                if layout in {"sparse_csr", "sparse_bsr"}
                else (
                    "ccol_indices",
                    "row_indices",
                )
            )
            parts = {names[0]: self._strided(compressed), names[1]: self._strided(plain)}
            parts["values"] = self._strided(content)
        shape = self._integers(size)
        self._elements(shape)
        return _composite(parts, parts["values"], shape, layout)

    def _nested(self, arguments: Sequence[Node]) -> TensorFacts:
        names = ("buffer", "sizes", "strides", "offsets")
        values = exactly(arguments, 4)
        parts = {name: self._strided(value) for name, value in zip(names, values, strict=True)}
        return _composite(parts, parts["buffer"], parts["sizes"].shape[:1], "nested")

    def _without_storage(self, dtype: str, size: Node, stride: Node, requires_grad: Node, device: str) -> TensorFacts:
        shape, strides = self._integers(size), self._integers(stride)
        if len(shape) != len(strides):
            refuse_tensor("it has not as many strides as dimensions")
        nbytes = self._elements(shape) * DTYPE_BYTES[dtype]
        requires = gradient(requires_grad, dtype)
        return TensorFacts(dtype, shape, strides, nbytes=nbytes, requires_grad=requires, device=device)

    def _meta(self, arguments: Sequence[Node]) -> TensorFacts:
        dtype, size, stride, requires_grad = exactly(arguments, 4)
        return self._without_storage(dtype_name(dtype), size, stride, requires_grad, "meta")

    def _wrapper(self, arguments: Sequence[Node]) -> TensorFacts:
        _, dtype, size, stride, offset, layout, device, requires_grad = exactly(arguments, 8)
        name = ":".join(map(str, device.arguments)) if function_name(device) == "torch.device" else str(device)
        facts = self._without_storage(dtype_name(dtype), size, stride, requires_grad, name)
        return replace(facts, storage_offset=count(offset), layout=layout_name(layout))

    def _from_cpu(self, arguments: Sequence[Node]) -> TensorFacts:
        data, dtype, device, requires_grad = exactly(arguments, 4)
        facts = self._of(data)
        if facts.dtype != dtype_name(dtype) or type(device) is not str:
            refuse_tensor("its device or dtype is not that of its data")
        return replace(facts, device=device, requires_grad=gradient(requires_grad, facts.dtype))

    def _from_numpy(self, arguments: Sequence[Node]) -> TensorFacts:
        data, dtype_node, device, requires_grad = exactly(arguments, 4)
        dtype = dtype_name(dtype_node)
        state = data.state.items if type(data) is Call and type(data.state) is TupleNode else ()
        _, size, array_dtype, fortran, *_ = exactly(state, 5)
        if numpy_dtype(array_dtype) is None or type(fortran) is not bool or type(device) is not str:
            refuse_tensor("its data is no numpy array")
        shape = self._integers(size)
        strides = contiguous_stride(shape[::-1])[::-1] if fortran else contiguous_stride(shape)
        nbytes = self._elements(shape) * DTYPE_BYTES[dtype]
        requires = gradient(requires_grad, dtype)
        return TensorFacts(dtype, shape, strides, nbytes=nbytes, requires_grad=requires, device=device)


def _composite(parts: dict[str, TensorFacts], values: TensorFacts, shape: tuple[int, ...], layout: str) -> TensorFacts:
    nbytes = sum(part.nbytes for part in parts.values())
    return TensorFacts(values.dtype, shape, (), nbytes=nbytes, device=values.device, layout=layout, components=parts)


def _bytes_of(elements: int, itemsize: int, packed: int) -> int:
    """Return the size of elements of which `packed` share `itemsize` bytes."""
    return -(-elements // packed) * itemsize


def _flagged(facts: TensorFacts, requires_grad: Node, metadata: Sequence[Node]) -> TensorFacts:
    """Return the facts with requires_grad and the bits that torch's metadata sets."""
    if not metadata:
        return replace(facts, requires_grad=True) if gradient(requires_grad, facts.dtype) else facts
    pairs = as_pairs(metadata[0])
    if pairs is None or any(not isinstance(key, str) or key not in {"conj", "neg"} for key, _ in pairs):
        refuse_tensor("its metadata is unknown")
    bits = {key: truth(value) for key, value in pairs}
    if "conj" in bits and not facts.dtype.startswith("complex"):
        refuse_tensor(f"it is {facts.dtype} and conjugated")
    return replace(facts, requires_grad=gradient(requires_grad, facts.dtype), **bits)
