"""What torchvision and timm have published: where each file of weights is, and which module it fills."""

import importlib
import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from registry.architecture import Architecture
from registry.errors import ConfigurationError, NotFoundError, WeighbridgeError
from registry.formats.reader import read
from registry.formats.source import FileSource
from registry.importing.found import Described, Published
from registry.module_info import Builder, PretrainedConfig
from registry.torch.architecture import architecture_of
from registry.torch.builders import find_built
from registry.torch.pretrained import combine, describe_weights, infer_pretrained_cfg

_IMAGENET = frozenset({"in1k", "in12k", "in21k", "in22k"})
"""What the tags of timm end with, when the head tells apart the classes of ImageNet."""
_HUB_FILES: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
_MAX_DETAIL = 2_000


def find_torchvision(name: str) -> Published:
    """Return what torchvision says of `resnet50/IMAGENET1K_V2`; without weights named, of its default ones.

    Raises:
        ConfigurationError: torchvision is not installed.
        NotFoundError: it has no such architecture or weights; the detail names those there are.
    """
    models = _import("torchvision.models", "torchvision")
    architecture, _, wanted = name.partition("/")
    try:
        known = models.get_model_weights(architecture)
    except ValueError as error:
        raise NotFoundError(
            f"torchvision has no model {architecture!r}. {_similar(architecture, models.list_models())}"
        ) from error
    if wanted and wanted not in known.__members__:
        raise NotFoundError(
            f"torchvision has no {wanted!r} for {architecture}. There are: {', '.join(known.__members__)}."
        )
    weights = known[wanted or "DEFAULT"]
    meta: Mapping[str, Any] = weights.meta
    details = {"weights": str(weights), "recipe": meta.get("recipe"), "about": " ".join(meta.get("_docs", "").split())}
    make = models.get_model_builder(architecture)
    callable_name = _public_name(make)
    return Published(
        source=f"torchvision:{architecture}/{weights.name}",
        urls=[weights.url],
        hub_id=None,
        hub_files=[],
        license=meta.get("license"),
        details=_texts(details),
        metrics=_metrics(meta.get("_metrics", {})),
        describe=lambda file: _describe_torchvision(file, callable_name, weights),
    )


def find_timm(name: str) -> Published:
    """Return what timm says of `resnet18.a1_in1k`; without a tag, of its default one.

    Raises:
        ConfigurationError: timm is not installed.
        NotFoundError: it has no such architecture or weights; the detail names those there are.
    """
    timm = _import("timm", "timm")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise NotFoundError(f"timm has no model {architecture!r}. {_similar(architecture, timm.list_models())}")
    described: Any = timm.models.get_pretrained_cfg(name, allow_unregistered=False) if _is_tagged(timm, name) else None
    if described is None or not (described.hf_hub_id or described.url):
        tagged = timm.list_pretrained(f"{architecture}.*")
        raise NotFoundError(
            f"timm has no weights {tag!r} for {architecture}. There are: {', '.join(tagged)}."
            if tagged
            else f"timm has no weights for {architecture}."
        )
    full = f"{architecture}.{described.tag}" if described.tag else architecture
    hub_id, _, revision = str(described.hf_hub_id or "").partition("@")
    files = [str(described.hf_hub_filename)] if described.hf_hub_filename else list(_HUB_FILES)
    details = {"paper": described.paper_ids, "origin": described.origin_url, "about": described.notes}
    return Published(
        source=f"timm:{full}",
        urls=[described.url] if described.url and not hub_id else [],
        hub_id=(f"{hub_id}@{revision}" if revision else hub_id) or None,
        hub_files=files if hub_id else [],
        license=None if described.license == "unknown" else described.license,
        details=_texts(details),
        metrics={},
        describe=lambda file: _describe_timm(file, full, described.num_classes),
    )


def _describe_torchvision(file: Path, callable_name: str, weights: Any) -> Described:
    said = describe_weights(weights)
    arguments: dict[str, Any] = {"num_classes": said.num_classes} if said.num_classes else {}
    known = _parameters(callable_name)
    if "weights_backbone" in known:
        arguments["weights_backbone"] = None
    # What the library sets on its own when it is asked for published weights: Inception's and GoogLeNet's input was
    # normalised otherwise, and segmentation's second head was trained beside the first.
    module = find_built(Builder(callable=callable_name, arguments=arguments))
    if hasattr(module, "transform_input"):
        arguments["transform_input"] = True
    extras: list[dict[str, Any]] = [{}, {"aux_loss": True}] if "aux_loss" in known else [{}]
    builders = [Builder(callable=callable_name, arguments={**arguments, **extra}) for extra in extras]
    return _fitting(file, builders, said)


def _describe_timm(file: Path, full: str, class_count: int) -> Described:
    builder = Builder(callable="timm:create_model", arguments={"model_name": full, "num_classes": class_count})
    dataset = full.rpartition(".")[2].rpartition("_")[2]
    names = _imagenet_names(class_count) if dataset in _IMAGENET else []
    return _fitting(file, [builder], PretrainedConfig(num_classes=class_count, class_names=names))


def _fitting(file: Path, builders: list[Builder], said: PretrainedConfig) -> Described:
    """Return the first builder whose module the file fills exactly; without one, the first that can be called."""
    tensors = _shapes_of_file(file)
    usable: list[tuple[Builder, nn.Module]] = []
    for builder in builders:
        module = find_built(builder)
        if module is None:
            continue
        usable.append((builder, module))
        if tensors is not None and _fills(tensors, architecture_of(module)):
            return Described(builder, _config(module, builder, said), [])
    if not usable:
        return Described(None, said, ["Its library cannot build the module here, so no builder is recorded."])
    builder, module = usable[0]
    note = (
        f"Its tensors have not the names and shapes of {builder.callable}: the library changes them as it loads "
        "them. `weighbridge check` says what is missing."
    )
    return Described(builder, _config(module, builder, said), [note])


def _fills(tensors: dict[str, tuple[int, ...]], target: Architecture) -> bool:
    wanted = {each.name: tuple(each.shape) for each in target.tensors.values()}
    # Files from before PyTorch 0.4.1 have no counters, and torch loads them all the same.
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    return wanted == tensors or {name: shape for name, shape in wanted.items() if name not in counters} == tensors


def _shapes_of_file(file: Path) -> dict[str, tuple[int, ...]] | None:
    """Return names and shapes of a file's tensors, nothing of it run; None when it cannot be read."""
    try:
        with FileSource(file) as source:
            inspection = read(source).inspection
    except WeighbridgeError:
        return None  # the service will say what is wrong with it
    return {each.name: tuple(each.shape) for each in inspection.tensors}


def _config(module: nn.Module, builder: Builder, said: PretrainedConfig) -> PretrainedConfig:
    inferred = infer_pretrained_cfg(module, builder)
    return said if inferred is None else combine(said, inferred, of_weights=True)


def _imagenet_names(class_count: int) -> list[str]:
    data = _import("timm.data", "timm")
    subset = data.infer_imagenet_subset({"num_classes": class_count})
    return list(data.ImageNetInfo(subset).label_descriptions(detailed=False)) if subset else []


def _metrics(reported: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return metrics by name; with their data set before it, where there are several."""
    return {
        name if len(reported) == 1 else f"{dataset}/{name}": float(value)
        for dataset, values in reported.items()
        for name, value in values.items()
    }


def _texts(details: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value)[:_MAX_DETAIL] for name, value in details.items() if value}


def _is_tagged(timm: ModuleType, name: str) -> bool:
    architecture, _, tag = name.partition(".")
    return not tag or name in timm.list_pretrained(f"{architecture}.*")


def _similar(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 5)
    return f"Did you mean {', '.join(near)}?" if near else "Look at what it lists with `list_models()`."


def _public_name(make: Any) -> str:
    """Return a function's name as users import it: from the package that holds its module, where that has it."""
    package = make.__module__.rpartition(".")[0]
    shown = getattr(importlib.import_module(package), make.__name__, None) is make if package else False
    return f"{package if shown else make.__module__}:{make.__name__}"


def _parameters(callable_name: str) -> set[str]:
    module, _, name = callable_name.partition(":")
    return set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)


def _import(module: str, library: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision raises the latter where its operators do not fit torch
        raise ConfigurationError(f"This needs {library}: `pip install {library}` ({error}).") from error
