"""From live objects to a file: state_dicts as safetensors where that loses nothing, everything else by torch.save."""

import json
import pickle
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from registry.errors import NoWeightsError, UnsupportedValueError
from registry.module_info import Builder, PretrainedConfig
from registry.state_dict import METADATA_KEY
from registry.torch import safetensors_file
from registry.torch.builders import infer_builder
from registry.torch.containers import iter_values, plain_mapping, replace_tensors
from registry.torch.pretrained import infer_pretrained_cfg
from registry.torch.sharing import compact_views, find_clusters
from registry.torch.unwrap import unwrap_module

_GATHER = (
    "Gather it first: `tensor.full_tensor()`, or for a whole module "
    "`torch.distributed.checkpoint.state_dict.get_model_state_dict(module, "
    "options=StateDictOptions(full_state_dict=True, cpu_offload=True))`, and push the result from one rank."
)
_SHARDED_CLASSES = {"DTensor", "ShardedTensor", "FlatParameter"}


@dataclass(frozen=True, slots=True)
class Captured:
    """A live object in a file.

    Attributes:
        path: of the file.
        builder: how to make the module again, where that is known.
        pretrained_cfg: what the module takes and gives, as far as it says so.
        wrappers: what was taken off the module, the outermost first.
        notices: what the user should know, as sentences.
    """

    path: Path
    builder: Builder | None = None
    pretrained_cfg: PretrainedConfig | None = None
    wrappers: list[str] = field(default_factory=list[str])
    notices: list[str] = field(default_factory=list[str])


def capture(obj: object, folder: Path, *, name: str = "model", as_code: bool = False, unwrap: bool = True) -> Captured:
    """Write a state_dict, module or checkpoint into `folder`.

    A module's state_dict is written, or with `as_code` the whole module. A state_dict becomes a safetensors file when
    that gives everything back (values, order, `_metadata`), else, as every checkpoint, a `.pt` file. Tensors
    are written one after the other; only views of larger storages are copied before.

    Args:
        obj: a module, a state_dict, or a checkpoint dict.
        folder: exists.
        name: of the file, without its suffix.
        as_code: write modules by pickle (TorchScript by `torch.jit.save`): loading them runs code.
        unwrap: take the module out of DataParallel, DDP, `torch.compile` and AveragedModel first.

    Raises:
        UnsupportedValueError: something cannot be written; the detail names it and says what to do.
        NoWeightsError: there is nothing to write.
    """
    if isinstance(obj, nn.Module):
        return _capture_module(obj, folder / name, as_code=as_code, unwrap=unwrap)
    if not isinstance(obj, Mapping):
        raise UnsupportedValueError(_say_wrong_type(obj))
    mapping = plain_mapping(cast("Mapping[Any, Any]", obj))
    return Captured(_write_mapping(mapping, folder / name, as_code=as_code))


def _capture_module(module: nn.Module, stem: Path, *, as_code: bool, unwrap: bool) -> Captured:
    wrappers: list[str] = []
    notices: list[str] = []
    if unwrap:
        found = unwrap_module(module)
        module, wrappers, notices = found.module, found.wrappers, found.notices
    _check_not_sharded(module)
    if as_code:
        for part in (*module.named_parameters(), *module.named_buffers()):
            _check_value(*part, as_code=True)
        path = _write_code(module, stem)
    else:
        state_dict = module.state_dict()
        if not state_dict:
            raise NoWeightsError(f"{type(module).__name__} has neither parameters nor buffers.")
        path = _write_mapping(state_dict, stem, as_code=False)
    builder = infer_builder(module)
    return Captured(path, builder, infer_pretrained_cfg(module, builder), wrappers, notices)


def _check_not_sharded(module: nn.Module) -> None:
    for name, child in cast("Iterator[tuple[str, nn.Module]]", module.named_modules()):
        if type(child).__name__ == "FullyShardedDataParallel":
            raise UnsupportedValueError(f"The module {name or 'itself'!r} is sharded by FSDP. {_GATHER}")


def _write_mapping(mapping: dict[Any, Any], stem: Path, *, as_code: bool) -> Path:
    if not mapping:
        raise NoWeightsError("The state_dict is empty; there is nothing to push.")
    values = list(iter_values(mapping))
    for name, value in values:
        _check_value(name, value, as_code=as_code)
    metadata = _file_metadata(mapping)
    planned = None if metadata is None else safetensors_file.plan_file(mapping, metadata)
    if planned is not None and not _has_ties(mapping.values()):
        path = stem.with_name(f"{stem.name}.safetensors")
        with _whole_or_nothing(path):
            safetensors_file.write(path, planned, mapping)
        return path
    copies = compact_views(value for _, value in values if isinstance(value, torch.Tensor))
    return _save(replace_tensors(mapping, copies), stem.with_name(f"{stem.name}.pt"))


def _check_value(name: str, value: object, *, as_code: bool) -> None:
    if isinstance(value, nn.Module) and not as_code:
        raise UnsupportedValueError(
            f"{name!r} is a whole {type(value).__name__}, and loading a pickled module runs code. Put its "
            "`state_dict()` there, or push with as_code=True."
        )
    if not isinstance(value, torch.Tensor):
        return
    if _is_lazy(value):
        raise UnsupportedValueError(f"{name!r} has no shape yet. Run the lazy module once before pushing it.")
    if any(each.__name__ in _SHARDED_CLASSES for each in type(value).__mro__):
        raise UnsupportedValueError(f"{name!r} is a {type(value).__name__}: this process holds a shard. {_GATHER}")
    if value.is_meta:
        raise UnsupportedValueError(f"{name!r} is on the meta device: it has a shape and no values to push.")


def _is_lazy(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)


def _has_ties(tensors: Iterable[torch.Tensor]) -> bool:
    return any(cluster.tied for storage in find_clusters(tensors) for cluster in storage)


def _file_metadata(mapping: Mapping[Any, Any]) -> dict[str, str] | None:
    """Return what goes into the header beside the tensors, None when that cannot hold all that the mapping has."""
    attributes = dict(getattr(mapping, "__dict__", {}))
    metadata = attributes.pop("_metadata", None)
    if attributes:
        return None
    # `format` is what transformers insists on.
    written = {"format": "pt"}
    if metadata is None:
        return written
    try:
        text = json.dumps(metadata)
    except (TypeError, ValueError, RecursionError):
        return None
    return {**written, METADATA_KEY: text} if json.loads(text) == metadata else None


def _write_code(module: nn.Module, stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.pt")
    if not isinstance(module, torch.jit.ScriptModule):
        return _save(module, path)
    with _whole_or_nothing(path):
        cast("Any", torch.jit).save(module, str(path))
    return path


def _save(value: object, path: Path) -> Path:
    with _whole_or_nothing(path), path.open("wb") as file:
        torch.save(value, file)
    return path


@contextmanager
def _whole_or_nothing(path: Path) -> Generator[None]:
    """Leave no half of a file behind, and name what cannot be written.

    Raises:
        UnsupportedValueError: pickle or torch refuses a value.
        OSError: the disk does.
    """
    try:
        yield
    except BaseException as error:
        path.unlink(missing_ok=True)
        cause = _find_cause(error, OSError)
        if cause is not None:
            raise cause from error
        if isinstance(error, pickle.PicklingError | AttributeError | TypeError | RuntimeError | NotImplementedError):
            raise UnsupportedValueError(f"It cannot be written: {error}") from error
        raise


def _find_cause(error: BaseException | None, kind: type[OSError]) -> OSError | None:
    """Return the first error of a kind in a chain: torch hides a full disk behind an error of its archive writer."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _say_wrong_type(obj: object) -> str:
    kind = type(obj).__name__
    if isinstance(obj, torch.Tensor):
        return 'A tensor has no name in a state_dict. Push {"name": tensor}.'
    if hasattr(obj, "state_dict"):
        return f'{kind} is no module. Push its values in a checkpoint: {{"optimizer": it.state_dict(), …}}.'
    return (
        "Push takes a module, a state_dict, a checkpoint dict, or the path of a file or folder that exists, "
        f"not a {kind}."
    )
