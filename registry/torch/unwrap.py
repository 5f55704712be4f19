"""Taking a module out of what training puts around it: parallelism, compilation, averaging."""

from dataclasses import dataclass, field

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

try:
    from torch._dynamo.eval_frame import OptimizedModule
except ImportError:  # torch was built without its compiler
    OptimizedModule = None


@dataclass(slots=True)
class Unwrapped:
    """A module without its wrappers.

    Attributes:
        module: what is inside.
        wrappers: class names, the outermost first.
        notices: what was left out with them.
    """

    module: nn.Module
    wrappers: list[str] = field(default_factory=list[str])
    notices: list[str] = field(default_factory=list[str])


def unwrap_module(module: nn.Module) -> Unwrapped:
    """Return the module inside DataParallel, DDP, `torch.compile` and AveragedModel, nested in any order."""
    found = Unwrapped(module)
    while (inner := _inner(found.module)) is not None:
        found.wrappers.append(type(found.module).__name__)
        if isinstance(found.module, AveragedModel):
            found.notices.append(
                "The averaged weights were taken out of AveragedModel: its counter `n_averaged` was left out, and "
                "with it the prefix `module.`. unwrap=False keeps both."
            )
        found.module = inner
    return found


def _inner(module: nn.Module) -> nn.Module | None:
    if isinstance(module, DataParallel | DistributedDataParallel | AveragedModel):
        return module.get_submodule("module")
    if OptimizedModule is not None and isinstance(module, OptimizedModule):
        # Registered by a name that `getattr` on a compiled module could forward to the module inside.
        return module.get_submodule("_orig_mod")
    return None
