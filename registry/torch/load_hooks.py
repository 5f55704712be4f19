"""Trying a load on a clone of the module on the meta device: what its own code does to a state_dict.

Torch lets every module rewrite what is loaded (`_load_from_state_dict`, load hooks). The comparison of names and shapes
cannot see that; running the code can, and costs no memory.
"""

import copy
import re
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from registry.architecture import Architecture
from registry.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SIZE_MISMATCH = re.compile(r"size mismatch for (\S+): copying")
_KNOWN_HOOKS = frozenset({"_weight_norm_compat_hook"})
"""Hooks that `registry.compat.rules` repeats."""
_KNOWN_LOADERS = frozenset({"torch.nn.modules.module", "torch.nn.modules.batchnorm"})


@dataclass(slots=True)
class Trial:
    """What torch said on the clone.

    Attributes:
        missing, unexpected, mismatched: names in the target's terms.
        refused: why the module's own code raised, None when it did not.
        changed: the module's architecture afterwards, when its code rebuilt it; else None.
    """

    missing: set[str] = field(default_factory=set[str])
    unexpected: set[str] = field(default_factory=set[str])
    mismatched: set[str] = field(default_factory=set[str])
    refused: str | None = None
    changed: nn.Module | None = None


def find_load_hooks(module: nn.Module) -> dict[str, list[str]]:
    """Return the code that takes part in loading besides torch's own: submodule name → functions by qualified name."""
    found: dict[str, list[str]] = {}
    for name, each in cast("Iterator[tuple[str, nn.Module]]", module.named_modules()):
        names = [hook for hook in _hooks_of(each) if hook.rpartition(".")[2] not in _KNOWN_HOOKS]
        kind = cast("Any", type(each))
        loader = kind._load_from_state_dict  # noqa: SLF001 - the method that torch documents for overriding
        if loader.__module__ not in _KNOWN_LOADERS:
            names.append(str(loader.__qualname__))
        if kind.load_state_dict is not nn.Module.load_state_dict:
            names.append(str(kind.load_state_dict.__qualname__))
        if names:
            found[name] = names
    return found


def _hooks_of(module: nn.Module) -> list[str]:
    kept: list[Any] = []
    for attribute in ("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"):
        kept.extend(cast("dict[int, Any]", getattr(module, attribute, {})).values())
    hooks = [getattr(each, "hook", each) for each in kept]
    return [str(getattr(hook, "__qualname__", type(hook).__qualname__)) for hook in hooks]


def try_load(module: nn.Module, source: Architecture, names: dict[str, str], metadata: Any) -> Trial | None:
    """Load a state_dict without values into a clone without values; None where the module cannot be cloned so.

    Args:
        module: stays as it is.
        source: what was saved; entries are left out, since their values are not known.
        names: source name → name in the module's terms.
        metadata: torch's `_metadata` in the module's terms, None when the source has none.
    """
    try:
        clone = clone_on_meta(module)
    except Exception:  # noqa: BLE001 - a foreign module may refuse to be copied in any way
        return None
    state_dict: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, spec in source.tensors.items():
        made = _empty(spec)
        if made is None:
            return None
        state_dict[names[name]] = made
    return _load(clone, state_dict, metadata)


def load_and_listen(module: nn.Module, state_dict: "Mapping[str, Any]", **options: bool) -> Any:
    """Load with `strict=False` and return torch's `missing_keys` and `unexpected_keys`.

    Some modules have a `load_state_dict` of their own that keeps torch's answer to itself (the encoders of
    segmentation_models_pytorch); a hook hears it. None where torch's was not called at all.
    """
    if isinstance(module, torch.jit.ScriptModule):
        # It takes no hooks, and has torch's own method.
        return cast("Any", module.load_state_dict(state_dict, strict=False, **options))
    heard: list[Any] = []

    def listen(_: nn.Module, keys: Any) -> None:
        heard.append(keys)

    handle = cast("Any", module).register_load_state_dict_post_hook(listen)
    try:
        answer = cast("Any", module.load_state_dict(state_dict, strict=False, **options))
    finally:
        handle.remove()
    return answer if hasattr(answer, "missing_keys") else heard[-1] if heard else None


def _load(clone: nn.Module, state_dict: "OrderedDict[str, torch.Tensor]", metadata: Any) -> Trial | None:
    before = _shapes(clone)
    trial = Trial()
    for _ in range(2):
        given = OrderedDict((name, each) for name, each in state_dict.items() if name not in trial.mismatched)
        if metadata is not None:
            cast("Any", given)._metadata = metadata  # noqa: SLF001 - torch's own place for it
        try:
            # What the code makes anew is made without values too.
            with warnings.catch_warnings(), torch.device("meta"):
                warnings.simplefilter("ignore")
                answer = load_and_listen(clone, given)
        except NotImplementedError:
            return None
        except Exception as error:  # noqa: BLE001 - a foreign hook may raise anything
            trial.mismatched = set(_SIZE_MISMATCH.findall(str(error)))
            if not trial.mismatched:
                return _refused(trial, error)
            continue
        if answer is None:
            return None
        trial.missing = set(answer.missing_keys) - trial.mismatched
        trial.unexpected = set(answer.unexpected_keys)
        break
    trial.changed = clone if _shapes(clone) != before else None
    return trial


def _refused(trial: Trial, error: Exception) -> Trial | None:
    if "meta tensor" in str(error):
        # The hook read a value, and there is none here: that says nothing about a real load.
        return None
    trial.refused = f"{type(error).__name__}: {error}"
    return trial


def clone_on_meta(module: nn.Module) -> nn.Module:
    """Copy a module without its values: every parameter and buffer is replaced before it could be copied."""
    replaced: dict[int, Any] = {}
    for each in (*module.parameters(), *module.buffers()):
        empty = each.detach().to("meta")
        is_parameter = isinstance(each, nn.Parameter)
        replaced[id(each)] = nn.Parameter(empty, requires_grad=each.requires_grad) if is_parameter else empty
    return copy.deepcopy(module, replaced)


def _empty(spec: TensorSpec) -> torch.Tensor | None:
    dtype = getattr(torch, spec.dtype, None)
    if spec.layout != "strided" or spec.quantised or not isinstance(dtype, torch.dtype):
        return None
    return torch.empty(spec.shape, dtype=dtype, device="meta")


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: each.shape for name, each in module.state_dict().items() if isinstance(each, torch.Tensor)}
