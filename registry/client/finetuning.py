"""Preparing a module for fine-tuning from a version, and freezing; PyTorch is imported when they are called."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from registry.client.check import Weights, compare_weights, find_architecture
from registry.client.connection import Connection
from registry.client.glue import import_finetune, import_freeze, import_load_into, import_recipe
from registry.client.loading import LoadOptions, load_into
from registry.compat.report import CompatibilityReport
from registry.module_info import Recipe

if TYPE_CHECKING:
    from registry.compat.loaded import LoadResult
    from registry.torch.freeze import Frozen

Mode = Literal["eval", "train"]
Globs = str | Iterable[str]
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class FineTune:
    """A module that is ready to be trained.

    Attributes:
        module: the one that was given, changed in place.
        param_groups: for `torch.optim`: every parameter that trains, once, in groups with a `name`.
        report: of the weights against the module with its new head.
        recipe: how to do it again; pushed with the module.
        loaded: what the load did.
        frozen: what does not train.
    """

    module: Any
    param_groups: list[dict[str, Any]]
    report: CompatibilityReport
    recipe: Recipe
    loaded: "LoadResult"
    frozen: "Frozen"

    def __str__(self) -> str:
        lines = [str(self.loaded)]
        lines += [f"head       {', '.join(self.recipe.head)}"] if self.recipe.head else []
        lines += str(self.frozen).splitlines() if self.frozen.parameters or self.frozen.rows else []
        lines += [_say_group(each) for each in self.param_groups] or ["nothing trains"]
        return "\n".join(lines)


def prepare_finetune(
    connection: Connection,
    ref: str | os.PathLike[str],
    module: Any,
    options: LoadOptions,
    wishes: Mapping[str, Any],
) -> FineTune:
    """Replace the head, load the backbone, freeze, and group what trains.

    Args:
        connection: the way to the service.
        ref: the version, or a local path.
        module: changed in place, or as it was when this raises.
        options: of the load.
        wishes: `head`, `num_classes`, `lr`, `weight_decay`, `freeze`, `rows`, `batch_norm` and `dropout`.

    Raises:
        WeighbridgeError: see `Client.prepare_finetune`.
    """
    engine = import_finetune()
    given = dict(wishes)
    modes = engine.Modes(given.pop("batch_norm"), given.pop("dropout"))
    chosen = engine.Wishes(**given, modes=modes)
    chosen.check()
    inner = engine.open_module(module)
    source = find_architecture(connection, ref, options.compared.part)
    part = import_load_into().find_submodule(inner, options.into)
    report = compare_weights(source, part, options.compared)
    exact = _pinned(connection, ref, source)

    def load(new: Sequence[str]) -> "LoadResult":
        return load_into(connection, exact, inner, _without_head(options, report, new))

    recorded = _recorded_heads(source, report, options)
    base = source.version.reference if source.version is not None else None
    prepared, loaded = engine.prepare(inner, load, chosen, base=base, recorded=recorded)
    return FineTune(module, prepared.param_groups, loaded.report, prepared.recipe, loaded, prepared.frozen)


def freeze(
    module: Any,
    except_: Globs = (),
    *,
    batch_norm: Mode = "eval",
    dropout: Mode = "train",
    rows: Mapping[str, Sequence[tuple[int, int]]] | None = None,
) -> "Frozen":
    """Freeze a module's parameters and running statistics; what an earlier call froze and this one excepts, trains.

    Parameters get `requires_grad=False` and lose their `.grad`: with a stale one, an optimizer would still move them.
    Frozen BatchNorm stays in eval, whatever `train()` says. What no load filled is never frozen.

    Args:
        module: an `nn.Module`; freeze it before it is wrapped in DistributedDataParallel.
        except_: globs over names of parameters, buffers and modules that train (`layer4.*`, `fc`, `*.bias`).
        batch_norm: `train` lets frozen BatchNorm go on normalising by the batch, and counting.
        dropout: `eval` turns Dropout off in the modules whose parameters are all frozen.
        rows: of tensors that train otherwise, the frozen rows as half-open ranges. Only their gradient is held back,
            so the weight decay of these tensors has to be 0.

    Returns:
        What is frozen and what is not; `print` it.

    Raises:
        InvalidRequestError: a glob matches nothing, rows do not exist, or the module cannot be frozen any more.
    """
    return import_freeze().freeze(module, except_, batch_norm=batch_norm, dropout=dropout, rows=rows)


def unfreeze(module: Any, only: Globs | None = None) -> "Frozen":
    """Let train what `freeze` froze; what did not train before `freeze` stays as it is.

    Args:
        module: that was frozen, or a part of it.
        only: globs over names of parameters, buffers and modules to unfreeze (`layer4.*`); all by default.

    Raises:
        InvalidRequestError: a glob matches nothing, or the module cannot be unfrozen any more.
    """
    return import_freeze().unfreeze(module, only)


def apply_recipe(module: Any, recipe: Recipe | Mapping[str, Any] | str | object) -> "Frozen":
    """Freeze a module as a recipe says; what an earlier call froze and the recipe does not, trains.

    Args:
        module: with the names that the recipe is over.
        recipe: a recipe, its JSON, or a version that has one (`hub.show(ref)`).

    Raises:
        InvalidRequestError: it is no recipe, or a glob or name in it matches nothing in the module.
    """
    return import_recipe().apply_recipe(module, recipe)


def _pinned(connection: Connection, ref: str | os.PathLike[str], source: Weights) -> str | os.PathLike[str]:
    """Return the reference of the very version that was compared: an alias may move before the load."""
    if source.version is None:
        return ref
    path = connection.resolver.reference(str(ref)).path
    return f"{source.version.reference}/{path}" if path else source.version.reference


def _recorded_heads(source: Weights, report: CompatibilityReport, options: LoadOptions) -> list[str]:
    """Return where the source's recorded head, or the one that the comparison saw, lies in the module."""
    described = source.described.classifier if source.described is not None else []
    known = [*options.compared.classifier, *described, *([] if report.head_guessed else report.head)]
    found: dict[str, None] = {}
    for head in known:
        for name, target in report.renames.names.items():
            suffix = name.removeprefix(head)
            if name.startswith(f"{head}.") and target.endswith(suffix):
                place = target.removesuffix(suffix)
                found[f"{options.into}.{place}" if options.into else place] = None
    return list(found)


def _without_head(options: LoadOptions, report: CompatibilityReport, new: Sequence[str]) -> LoadOptions:
    """Return options by which new layers are not filled, where the source has values that would fit them."""
    below = f"{options.into}." if options.into else ""
    heads = tuple(f"{each}." for each in new)
    names = [source for source, name in report.renames.names.items() if heads and f"{below}{name}".startswith(heads)]
    there = dict.fromkeys(name.rpartition(".")[0] for name in names)
    if not there or options.allowed.drop_head != "auto":
        return options
    compared = replace(options.compared, classifier=options.compared.classifier or tuple(there))
    return replace(options, compared=compared, allowed=replace(options.allowed, drop_head=True))


def _say_group(group: Mapping[str, Any]) -> str:
    settings = [f"{name} {group[name]:g}" for name in ("lr", "weight_decay") if name in group]
    count = sum(each.numel() for each in group["params"])
    said = f", {', '.join(settings)}" if settings else ""
    return f"group      {group['name']}: {len(group['params'])} parameters, {count:,} numbers{said}"
