"""The load itself: everything is ready before the first copy, torch copies, and a failure leaves no trace."""

import signal
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any, cast

import torch
from torch import nn

from registry.architecture import Architecture
from registry.compat.casts import classify_cast
from registry.compat.leftovers import COUNTER
from registry.compat.load_plan import LoadPlan
from registry.compat.loaded import LoadResult
from registry.compat.name_globs import shorten
from registry.compat.rename_map import rename_metadata
from registry.errors import StateDictMismatchError, WeighbridgeError
from registry.torch.architecture import architecture_of
from registry.torch.freeze import freeze, open_module
from registry.torch.load_hooks import clone_on_meta, load_and_listen
from registry.torch.load_target import Placing, check_target, find_submodule, has_own_code
from registry.torch.load_values import LoadValues
from registry.torch.overlaps import check_overlaps
from registry.torch.undo import Undo
from registry.torch.uninitialised import iter_tensors, mark_uninitialised
from registry.torch.unwrap import unwrap_module

__all__ = ["Filling", "Placing", "architecture_of", "find_submodule", "has_own_code"]

KEPT_BYTES = 256 << 20
"""Up to this size a module's values are kept during any load, for what nobody can foresee."""


class Filling:
    """One load into one module, in two steps: `prepare` may fail and changes nothing; `fill` leaves all or nothing.

    Memory: the values are memory maps of the cache, and no copy of the state_dict is made. A copy of the module's own
    values is kept while torch copies, where the module is smaller than `KEPT_BYTES` or code of its own takes part
    (load hooks, `set_extra_state`), since that can raise half-way.

    Args:
        module: what is filled.
        target: its architecture.
        plan: what goes where.
        placing: how.
        freezes: whether what was filled is frozen afterwards.
        keeps_head: whether the head stays trainable where everything was filled, so that something can be trained.

    Raises:
        InvalidRequestError, StateDictMismatchError, UnsupportedValueError: see `check_target`.
    """

    def __init__(
        self,
        module: nn.Module,
        target: Architecture,
        plan: LoadPlan,
        placing: Placing,
        *,
        freezes: bool = False,
        keeps_head: bool = True,
    ) -> None:
        self._module, self._target, self._plan, self._placing = module, target, plan, placing
        check_target(module, plan, placing)
        self._tensors = dict(iter_tensors(module))
        self._trains = self._find_trained() if freezes and keeps_head else ()
        self._freezes = freezes
        if freezes:
            self._rehearse_freezing()

    def prepare(self, source: Architecture, state_dict: Mapping[str, Any]) -> "OrderedDict[str, Any]":
        """Return what `load_state_dict` is to be given: values by target name, and `_metadata` in the target's terms.

        Raises:
            MalformedArtifactError, UnsupportedValueError, StateDictMismatchError: see `LoadValues.make`.
        """
        values = LoadValues(self._plan, source, state_dict, self._tensors, self._target, self._placing)
        given: OrderedDict[str, Any] = OrderedDict(values.make())
        self._notes = values.notes
        check_overlaps(self._tensors, given, assign=self._placing.assign)
        if has_own_code(self._module, given.keys()):
            # That code sees what the check let it see: everything that has no other reason to stay out.
            out = {*self._plan.missing, *given}
            names = self._plan.report.renames.names
            taken = set(self._plan.loaded.values())
            for name, value in state_dict.items():
                if names[name] not in out and name not in taken and not self._was_given_up(name):
                    given[names[name]] = value
        given.update(self._counters())
        metadata = getattr(state_dict, "_metadata", None)
        if metadata is not None:
            cast("Any", given)._metadata = rename_metadata(self._plan.report.renames, metadata)  # noqa: SLF001 - torch's own place for it
        return given

    def _was_given_up(self, name: str) -> bool:
        return any(name in each.source_names for each in self._plan.report.conflicts)

    def _counters(self) -> dict[str, torch.Tensor]:
        """Return zeros for BatchNorm counters that would else stay on the meta device."""
        names = [*self._plan.report.counters, *(name for name in self._plan.missing if name.endswith(COUNTER))]
        hollow = [name for name in names if name in self._tensors and self._tensors[name].is_meta]
        return {
            name: torch.zeros((), dtype=torch.int64, device=self._placing.device_for(self._tensors[name]))
            for name in hollow
        }

    def fill(self, given: "OrderedDict[str, Any]") -> LoadResult:
        """Let torch copy or assign the values; after a failure the module is as it was.

        Raises:
            StateDictMismatchError: torch or the module's own code did something else than was planned.
        """
        own_code = has_own_code(self._module, given.keys())
        keep = own_code or self._size() <= KEPT_BYTES
        slots = _find_slots(self._module) if self._placing.assign else []
        with _uninterrupted():
            undo = Undo(self._module, values=keep, attributes=own_code)
            try:
                self._copy(given)
                _tie_again(slots)
                mark_uninitialised(self._module, self._plan.missing)
                if self._freezes:
                    freeze(self._module, except_=self._trains)
            except BaseException as error:
                undo.restore()
                if isinstance(error, WeighbridgeError) or not isinstance(error, Exception):
                    raise
                raise StateDictMismatchError(self._say_failed(error, undo)) from error
        return self._result()

    def _copy(self, given: "OrderedDict[str, Any]") -> None:
        assign = {"assign": True} if self._placing.assign else {}
        answer = load_and_listen(self._module, given, **assign)
        missing = set(getattr(answer, "missing_keys", ())) - {*self._plan.missing}
        names = self._plan.report.renames.names
        dropped = {names.get(name, name) for name in self._plan.dropped}
        unexpected = set(getattr(answer, "unexpected_keys", ())) - dropped
        if missing or unexpected:
            what = f"{min(missing)!r} unfilled" if missing else f"{min(unexpected)!r} unused"
            raise StateDictMismatchError(
                f"The module's own load code left {what}, which the check could not foresee. Nothing was changed.",
                missing=sorted(missing),
                unexpected=sorted(unexpected),
            )

    def _say_failed(self, error: Exception, undo: Undo) -> str:
        report = self._plan.report
        state = "nothing was changed" if undo.holds_values or self._placing.assign else "it is filled in part"
        return f"{report.source} was not loaded into {report.target}; {state}. {type(error).__name__}: {error}"

    def _size(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors.values() if not tensor.is_meta)

    def _result(self) -> LoadResult:
        plan, placing = self._plan, self._placing
        if placing.assign and placing.dtype is not None:
            chosen = str(placing.dtype).removeprefix("torch.")
            plan.report.casts = [
                replace(each, target_dtype=chosen, effect=classify_cast(each.source_dtype, chosen))
                if each.name in self._tensors and self._tensors[each.name].is_floating_point()
                else each
                for each in plan.report.casts
            ]
        notices: list[str] = []
        if self._trains:
            notices.append(f"Everything was filled; the head ({', '.join(self._trains)}) was not frozen.")
        if plan.report.hooked:
            notices.append(f"{len(plan.report.hooked):,} tensors were filled by the module's own code.")
        return LoadResult(plan.report, plan.loaded, plan.missing, plan.dropped, self._notes, notices)

    def _find_trained(self) -> Sequence[str]:
        """Return globs over the head where it is all that there could be to train: nothing else is new."""
        heads = tuple(f"{module}." for module in self._plan.head)
        names = [name for name, source in self._plan.loaded.items() if heads and source.startswith(heads)]
        if not names or any(isinstance(self._tensors.get(name), nn.Parameter) for name in self._plan.missing):
            return ()
        # `freeze` names the tensors of what is inside of torch.compile and AveragedModel.
        inner = unwrap_module(self._module).module
        parts = cast("Iterable[tuple[str, nn.Module]]", self._module.named_modules())
        wrapper = next(f"{name}." if name else "" for name, part in parts if part is inner)
        chosen = {name.removeprefix(wrapper) for name in names}
        others = (name.removeprefix(wrapper) for name in self._tensors)
        return shorten(sorted(chosen), (name for name in others if name not in chosen))

    def _rehearse_freezing(self) -> None:
        """Freeze a clone without values: what is refused is refused before the load.

        Raises:
            InvalidRequestError: see `freeze`.
        """
        open_module(self._module)
        try:
            clone = clone_on_meta(self._module)
        except Exception:  # noqa: BLE001 - a foreign module may refuse to be copied in any way
            return
        mark_uninitialised(clone, self._plan.missing)
        freeze(clone, except_=self._trains)


def _find_slots(module: nn.Module) -> list[list[tuple[nn.Module, str, torch.Tensor]]]:
    """Return the places of each parameter and buffer that has several."""
    places: dict[int, list[tuple[nn.Module, str, torch.Tensor]]] = {}
    for part in module.modules():
        own = (
            *part.named_parameters(recurse=False, remove_duplicate=False),
            *part.named_buffers(recurse=False, remove_duplicate=False),
        )
        for name, tensor in own:
            places.setdefault(id(tensor), []).append((part, name, tensor))
    return [each for each in places.values() if len(each) > 1]


def _tie_again(slots: list[list[tuple[nn.Module, str, torch.Tensor]]]) -> None:
    for places in slots:
        now = [getattr(part, name) for part, name, _ in places]
        new = next((each for each, (_, _, old) in zip(now, places, strict=True) if each is not old), None)
        for part, name, _ in places if new is not None else ():
            setattr(part, name, new)


@contextmanager
def _uninterrupted() -> Generator[None]:
    """Let Ctrl-C wait until the block is done: between two copies it would leave a module half filled."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append((number, frame))

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if waiting and callable(previous):
            previous(*waiting[-1])
