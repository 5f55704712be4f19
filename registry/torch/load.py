"""From verified local files to tensors: memory-mapped, tied as they were, and without running anything."""

import json
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from registry.errors import (
    InvalidRequestError,
    MalformedArtifactError,
    NoWeightsError,
    UnsupportedValueError,
)
from registry.formats.inspection import Document, TensorRecord
from registry.formats.nodes import Call, Node
from registry.formats.reader import read, uncollected
from registry.formats.source import FileSource
from registry.formats.values import as_items, as_pairs
from registry.pieces import WeightFile
from registry.state_dict import METADATA_KEY, choose_part, refuse_unsafe, select_names
from registry.torch.graph import find_module, find_part, module_state, module_versions
from registry.torch.restore import Restorer
from registry.torch.storages import FileStorages, find_device, find_dtype
from registry.torch.tensors import TensorMaker, View

Patterns = str | Sequence[str] | None


@uncollected()
def load_state_dict(
    files: Sequence[WeightFile],
    *,
    part: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    only: Literal["weights"] = "weights",
    names: Collection[str] | None = None,
) -> OrderedDict[str, Any]:
    """Return the state_dict that local files hold, as `torch.load` would, with nothing unpickled.

    On the CPU the tensors are private copy-on-write maps of the files: training on them never changes a file.
    Tensors that shared memory share it again; `_metadata` and entries (`_extra_state`) are restored.

    Args:
        files: one weight file, or the shards of one state_dict.
        part: which state_dict of a checkpoint; by default the only one, else the first of `DEFAULT_PARTS`.
        device: where the tensors shall lie, as `map_location`; where they were saved does not matter.
        dtype: what floating-point tensors are converted to; quantised tensors and entries stay.
        include: fnmatch patterns of names to load; all by default.
        exclude: fnmatch patterns of names to leave out.
        only: `weights`, what a module loads: no optimizer state, no scalars.
        names: those to load, where they are known exactly.

    Raises:
        AmbiguousWeightsError: several parts could be meant; `extra["candidates"]` lists them.
        NoWeightsError: there are no weights, or no such part.
        UnsupportedValueError: an entry cannot be restored; the detail names it.
        InvalidRequestError: an argument makes no sense, or a pattern matches no name.
        MalformedArtifactError, UnsafeArtifactError: the file cannot be read, or must not.
    """
    check_only(only)
    target = find_dtype(dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    shards = [_Shard.open(file, part, find_device(device), target) for file in files]
    there = [name for shard in shards for name in shard.contents]
    if len(set(there)) != len(there):
        raise MalformedArtifactError("Two shards hold a tensor of the same name.")
    wanted = select_names(there, _patterns(include), _patterns(exclude)) if names is None else set(names)
    result: OrderedDict[str, Any] = OrderedDict()
    for shard in shards:
        for name in shard.contents:
            if name in wanted:
                result[name] = shard.restore(name)
    for shard in shards:
        _merge_attributes(result, shard.attributes())
    return result


def check_only(only: str) -> None:
    """Raise `InvalidRequestError` for what `only` cannot be."""
    if only != "weights":
        raise InvalidRequestError(f"only={only!r} is not known; it is 'weights'.")


def load_checkpoint(file: Path, *, device: str | torch.device = "cpu") -> Any:
    """Return everything that a file holds: nested containers, plain values and tensors, with nothing unpickled.

    Only data classes of an explicit table are made (those of collections, datetime, pathlib, numpy and the like).

    Args:
        file: a weight file.
        device: where the tensors shall lie, as `map_location`.

    Raises:
        UnsupportedValueError: it holds anything else; the detail names it.
        MalformedArtifactError, UnsafeArtifactError: the file cannot be read, or must not.
    """
    document = _read(file)
    if document.inspection.format == "safetensors":
        return load_state_dict([file], device=device)
    storages = FileStorages(file, document.inspection, find_device(device))
    return Restorer(TensorMaker(storages)).restore(document.root)


def _read(file: WeightFile) -> Document:
    if not isinstance(file, Path):
        return file.document
    with FileSource(file) as source:
        document = read(source)
    refuse_unsafe(file.name, document.inspection)
    return document


@dataclass(slots=True)
class _Shard:
    """One file of a state_dict: what it holds by name, not yet restored."""

    contents: dict[str, Node | TensorRecord]
    holder: Node
    is_module: bool
    file_metadata: Mapping[str, str]
    versions: Mapping[str, Any] | None
    maker: TensorMaker
    restorer: Restorer

    @classmethod
    def open(cls, file: WeightFile, part: str | None, device: torch.device, dtype: torch.dtype | None) -> "_Shard":
        document = _read(file)
        inspection = document.inspection
        maker = TensorMaker(FileStorages(file, inspection, device), dtype)
        holder = document.root
        chosen = choose_part(inspection, part)
        if chosen is not None:
            holder = find_part(holder, inspection, chosen)
        if inspection.format == "safetensors" or document.is_plain:
            contents: dict[str, Any] = {record.name: record for record in inspection.tensors}
        else:
            contents = _contents(holder)
        is_module = find_module(holder) is not None
        versions = inspection.metadata[""] if document.is_plain else None
        return cls(contents, holder, is_module, inspection.file_metadata, versions, maker, Restorer(maker))

    def restore(self, name: str) -> Any:
        found = self.contents[name]
        if isinstance(found, TensorRecord):
            self.maker.casting = True
            key, offset = found.storage_key or found.name, found.storage_offset
            tensor = self.maker.strided(View(key, find_dtype(found.dtype), offset, found.shape, found.stride))
            return tensor.requires_grad_() if found.requires_grad else tensor
        try:
            value = self.restorer.restore(found)
        except UnsupportedValueError as error:
            raise UnsupportedValueError(
                f"The entry {name!r} cannot be restored. {error.detail} Leave it out with exclude={name!r}.",
                **error.extra,
            ) from error
        # `state_dict()` gives out no parameters, and here it is what a pickled module is asked for.
        return value.detach() if self.is_module and isinstance(value, torch.Tensor) else value

    def attributes(self) -> dict[str, Any]:
        """Return what was set on the state_dict itself: `_metadata`."""
        if self.versions is not None:
            return {"_metadata": OrderedDict({name: dict(each) for name, each in self.versions.items()})}
        if METADATA_KEY in self.file_metadata:
            return {"_metadata": _parse_metadata(self.file_metadata[METADATA_KEY])}
        module = find_module(self.holder)
        if module is not None:
            return {"_metadata": module_versions(module)}
        if isinstance(self.holder, Call) and self.holder.has_state:
            found = self.restorer.restore(self.holder.state)
            return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        return {}


def _contents(holder: Node) -> dict[str, Node]:
    module = find_module(holder)
    if module is not None:
        return module_state(module)
    pairs = as_pairs(holder)
    if pairs is None:
        pairs = list(enumerate(as_items(holder) or ()))
    if not pairs:
        raise NoWeightsError("The file holds no tensors by name. `pull_checkpoint` gets what it holds.")
    return {str(name): node for name, node in pairs}


def _patterns(given: Patterns) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def _parse_metadata(text: str) -> OrderedDict[str, Any]:
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedArtifactError(f"{METADATA_KEY!r} of the safetensors header is no JSON.") from error
    if not isinstance(parsed, dict):
        raise MalformedArtifactError(f"{METADATA_KEY!r} of the safetensors header is no object.")
    return OrderedDict(cast("dict[str, Any]", parsed))


def _merge_attributes(result: OrderedDict[str, Any], attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        present = vars(result).get(name)
        if isinstance(present, dict) and isinstance(value, dict):
            cast("dict[str, Any]", present).update(cast("dict[str, Any]", value))
        else:
            vars(result)[name] = value
