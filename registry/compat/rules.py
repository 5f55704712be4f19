"""What torch does by itself when it loads, beyond copying a tensor of the same name and shape.

Each rule names the function of torch (or torchvision) that it repeats. Rules that only a module's own code knows are
found by `registry.torch.check`, which runs that code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.architecture import Architecture
from registry.compat.leftovers import COUNTER
from registry.compat.rename_map import RenameMap, rename_metadata
from registry.tensor_spec import TensorSpec

COUNTED_SINCE = 2
"""The version of BatchNorm whose state_dicts have `num_batches_tracked`."""
_FROZEN_VERSION = 1
_ORIGINALS = ("original0", "original1")
EXTRA_STATE = "_extra_state"
"""The last name of what `get_extra_state` returns; it may be a tensor."""
_OLD_SUFFIXES = ("_g", "_v")


@dataclass(slots=True)
class LoadRules:
    """What the rules make of the names that nothing takes.

    Attributes:
        filled: target name → source name that torch moves there.
        counters: target names that torch fills from the module itself.
        dropped: source names that torch drops without calling them unexpected.
    """

    filled: dict[str, str] = field(default_factory=dict[str, str])
    counters: list[str] = field(default_factory=list[str])
    dropped: list[str] = field(default_factory=list[str])


def find_load_rules(
    source: Architecture, target: Architecture, renames: RenameMap, *, missing: list[str], unexpected: list[str]
) -> LoadRules:
    """Return which missing and unexpected names torch takes care of.

    Args:
        source: what was saved.
        target: what shall be filled.
        renames: from the one to the other.
        missing: target names that nothing fills by name.
        unexpected: source names without a place of their name.
    """
    rules = LoadRules()
    counters = _ending_with(COUNTER, missing)
    if counters:
        versions = _Versions(source, renames)
        rules.counters = [name for name in counters if versions.of(_owner(name)) < COUNTED_SINCE]
    originals = _ending_with(_ORIGINALS[0], missing)
    if originals:
        rules.filled = _weight_norms(target, renames, originals, unexpected)
    left = _ending_with(COUNTER, unexpected)
    rules.dropped = [name for name in left if _is_counter_of_frozen(renames.names.get(name, name), target)]
    return rules


def _ending_with(ending: str, names: Sequence[str]) -> list[str]:
    """Return the names that end so: mostly none do, and one look at all of them together tells."""
    return [name for name in names if name.endswith(ending)] if ending in "\n".join(names) else []


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def fits(have: TensorSpec, want: TensorSpec) -> bool:
    """Return whether torch copies one to the other: equal shapes, or what 0.3 saved as `[1]` into a scalar.

    As `torch.nn.Module._load_from_state_dict` does; it hands extra state to its module, whatever its shape.
    """
    return have.shape == want.shape or (not want.shape and have.shape == (1,)) or want.name.endswith(EXTRA_STATE)


def _weight_norms(
    target: Architecture, renames: RenameMap, missing: list[str], unexpected: list[str]
) -> dict[str, str]:
    """Return what `torch.nn.utils.parametrizations.weight_norm` takes from the names of the old `weight_norm`.

    `weight_g` and `weight_v` become `parametrizations.weight.original0` and `original1`, when both are there.
    """
    source_of = {renames.names[name]: name for name in unexpected if name in renames.names}
    filled: dict[str, str] = {}
    for name in missing:
        parent, _, leaf = name.rpartition(".")
        owner, mark, parameter = parent.rpartition("parametrizations.")
        if leaf != _ORIGINALS[0] or not mark:
            continue
        new = [f"{parent}.{each}" for each in _ORIGINALS]
        old = [source_of.get(f"{owner}{parameter}{suffix}") for suffix in _OLD_SUFFIXES]
        if all(each in target.tensors for each in new):
            filled.update({to: found for to, found in zip(new, old, strict=True) if found and None not in old})
    return filled


def _is_counter_of_frozen(name: str, target: Architecture) -> bool:
    """Return whether a FrozenBatchNorm of the target drops this counter.

    `torchvision.ops.FrozenBatchNorm2d._load_from_state_dict` and those that were copied from it (timm, transformers)
    do. What tells them from a BatchNorm: their weight is a buffer, and their version is 1.
    """
    module, _, leaf = name.rpartition(".")
    dotted = f"{module}." if module else ""
    if leaf != COUNTER or name in target.tensors or f"{dotted}running_mean" not in target.tensors:
        return False
    weight = target.tensors.get(f"{dotted}weight")
    if weight is not None and weight.role != "unknown":
        return weight.role == "buffer"
    return (target.metadata or {}).get(module, {}).get("version") == _FROZEN_VERSION


class _Versions:
    """The versions of the source's modules, under the target's names."""

    def __init__(self, source: Architecture, renames: RenameMap) -> None:
        self._versions = rename_metadata(renames, source.metadata or {})

    def of(self, module: str) -> int:
        """Return the version; 0 where there is none, as `_NormBase._load_from_state_dict` takes it."""
        version = self._versions.get(module, {}).get("version")
        return version if isinstance(version, int) else 0
