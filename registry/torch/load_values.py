"""The values of a load as the module takes them: read, of the announced shape, adapted, converted where needed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch

from registry.architecture import Architecture
from registry.compat.load_plan import LoadPlan
from registry.errors import MalformedArtifactError, StateDictMismatchError, UnsupportedValueError
from registry.tensor_spec import TensorSpec
from registry.torch.load_target import Placing
from registry.torch.memory import extent_of, internal_overlap, storage_of

if TYPE_CHECKING:
    from registry.compat.report import Mismatch


class LoadValues:
    """Makes what each target name is filled with; nothing of the module is touched.

    Args:
        plan: which source tensor goes where.
        source: what the plan was made from.
        state_dict: the source's values by their names.
        tensors: the module's own tensors by name.
        target: the module's architecture, for its ties.
        placing: how the values get into the module.

    Attributes:
        notes: target name → what was done to adapt it.
    """

    def __init__(  # noqa: PLR0917 - two sides, each with its values
        self,
        plan: LoadPlan,
        source: Architecture,
        state_dict: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        target: Architecture,
        placing: Placing,
    ) -> None:
        self.notes: dict[str, str] = {}
        self._plan, self._source, self._state_dict = plan, source, state_dict
        self._tensors, self._target, self._placing = tensors, target, placing
        self._refused = {each.name for each in plan.report.casts if each.effect == "refused"}
        self._of_tie: dict[str, torch.Tensor] = {}
        self._taken: dict[int, list[tuple[int, int]]] = {}
        self._convertible: set[tuple[torch.dtype, torch.dtype, torch.device]] = set()

    def make(self) -> dict[str, Any]:
        """Return the values by target name.

        Raises:
            MalformedArtifactError: the source is not what was compared.
            UnsupportedValueError: a value cannot be converted or adapted.
            StateDictMismatchError: what is one tensor in the module would get several values.
        """
        return {name: self._value(name, source) for name, source in self._plan.loaded.items()}

    def _value(self, name: str, source: str) -> Any:
        if source not in self._state_dict:
            raise MalformedArtifactError(f"{source!r} was there when the weights were compared, and now is not.")
        value, want = self._state_dict[source], self._tensors.get(name)
        if not isinstance(value, torch.Tensor):
            return value
        value = value.detach()
        _check_as_compared(value, self._source.tensors.get(source))
        if want is None:
            return value
        mismatch = self._plan.adapted.get(name)
        if mismatch is not None:
            value = self._adapt(name, value, want, mismatch)
        value = self._convert(name, value, want)
        tie = self._target.tensors[name].tie if name in self._target.tensors else None
        if not self._placing.assign and mismatch is None:
            return value
        if tie is not None:
            first = self._of_tie.setdefault(tie, value)
            if mismatch is not None and not torch.equal(first, value):
                raise StateDictMismatchError(
                    f"{name} is one tensor with another one of the module, and adapting gave the two different values. "
                    f"Leave one of them out: allow_unexpected=[{source!r}]."
                )
            if first is not value:
                return first
        return self._own(value) if self._placing.assign else value

    def _adapt(self, name: str, value: torch.Tensor, want: torch.Tensor, mismatch: "Mismatch") -> torch.Tensor:
        # Imported here: most loads adapt nothing.
        from registry.torch.adapt import adapt_tensor

        hollow = want.is_meta
        own = torch.zeros(want.shape, dtype=want.dtype) if hollow else want
        adapted = adapt_tensor(cast("str", mismatch.adapter), value, own, name)
        if hollow and (adapted.kept or adapted.new_rows):
            raise StateDictMismatchError(
                f"{name} keeps values of the module's own ({adapted.note}), and on the meta device it has none. Build "
                "the module on the CPU."
            )
        if adapted.tensor.shape != want.shape:
            raise UnsupportedValueError(
                f"{name} cannot be adapted: {list(value.shape)} became {list(adapted.tensor.shape)}, and "
                f"{list(want.shape)} is wanted."
            )
        self.notes[name] = adapted.note
        return adapted.tensor.detach()

    def _convert(self, name: str, value: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
        """Convert where torch's own `copy_` would not, or the value itself goes into the module."""
        dtype, device = self._placing.dtype_for(want), self._placing.device_for(want)
        try:
            if name in self._refused:
                value = _to_kind(value, want, dtype)
            self._check_convertible(value, dtype, device)
            return value.to(device=device, dtype=dtype) if self._placing.assign else value
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise UnsupportedValueError(
                f"{name}: {value.dtype} ({value.layout}) cannot become {dtype} on {device}: {error}"
            ) from error

    def _check_convertible(self, value: torch.Tensor, dtype: torch.dtype, device: torch.device) -> None:
        """Let torch convert one element of these dtypes, so that none of the many can fail."""
        pair = (value.dtype, dtype, device)
        if pair in self._convertible or value.is_quantized or value.dtype == dtype:
            return
        torch.empty(1, dtype=dtype, device=device).copy_(torch.empty(1, dtype=value.dtype))
        self._convertible.add(pair)

    def _own(self, value: torch.Tensor) -> torch.Tensor:
        """Return a value that shares its memory with no other one of this load and no element with another."""
        if value.layout != torch.strided or value.is_quantized or not value.numel():
            return value
        if internal_overlap(value):
            return value.clone(memory_format=torch.contiguous_format)
        extent = extent_of(value)
        taken = self._taken.setdefault(storage_of(value), [])
        if any(start < extent[1] and extent[0] < end for start, end in taken):
            return value.clone()
        taken.append(extent)
        return value


def _to_kind(value: torch.Tensor, want: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Make a dense real tensor of one that is not, which torch's `copy_` refuses or warns about."""
    if value.is_quantized and not want.is_quantized:
        value = value.dequantize()
    if value.layout != want.layout:
        value = value.to_dense()
    if value.is_complex() and not dtype.is_complex:
        value = value.real
    return value.to(dtype)


def _check_as_compared(value: torch.Tensor, spec: TensorSpec | None) -> None:
    if spec is not None and (tuple(value.shape), str(value.dtype)) != (spec.shape, f"torch.{spec.dtype}"):
        raise MalformedArtifactError(
            f"{spec.name!r} is {value.dtype} {list(value.shape)}, and was {spec.dtype} {list(spec.shape)} when the "
            "weights were compared: the file changed in between."
        )
