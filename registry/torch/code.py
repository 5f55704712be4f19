"""Opening files that run code, for those who said so: the only place that calls `torch.load` and `torch.jit.load`."""

import hashlib
import pickle
import re
import types
from collections.abc import Collection, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from registry.errors import (
    ConfigurationError,
    DigestMismatchError,
    InvalidRequestError,
    TrustCodeRequiredError,
    UnsafeArtifactError,
    UnsupportedValueError,
)
from registry.formats.inspection import Inspection
from registry.formats.mentions import name_some
from registry.formats.reader import read
from registry.formats.source import FileSource
from registry.torch.storages import find_device

_OLDEST_TORCH = (2, 10)
_PICKLED = ("torch-zip", "torch-legacy", "torch-tar")


def load_code(
    file: Path,
    file_format: str | None = None,
    *,
    trust_code: bool = False,
    classes: Mapping[str, object] | None = None,
    device: str | torch.device = "cpu",
    sha256: str | None = None,
) -> Any:
    """Open a pickled module, a checkpoint with foreign classes, or a TorchScript archive. This runs code of the file.

    Only the globals that the file was seen to refer to can be reached while it is opened.

    Args:
        file: a weight file.
        file_format: what the service says it is; the bytes must agree.
        trust_code: True says that you trust who made the file.
        classes: what globals of the file mean here, as `{"__main__.Net": Net}`; others are imported.
        device: as `map_location`.
        sha256: hexadecimal; the very bytes that are opened must have it.

    Raises:
        TrustCodeRequiredError: `trust_code` is not True; `extra["globals"]` lists what would be run.
        UnsafeArtifactError: the file would do harm; it is never opened.
        ConfigurationError: this PyTorch is older than 2.10, whose loaders can be attacked even so.
        InvalidRequestError: the file holds no code, or is of another format than `file_format`.
        UnsupportedValueError: a class of the file cannot be imported, or its code failed.
        DigestMismatchError: the file has other bytes.
    """
    with FileSource(file) as source:
        inspection = read(source).inspection
    _check_verdict(file, inspection, trust_code=trust_code)
    if file_format is not None and file_format != inspection.format:
        raise InvalidRequestError(f"{file.name} is a {inspection.format} file, not {file_format}.")
    if torch_release() < _OLDEST_TORCH:
        raise ConfigurationError(
            f"Opening a file as code needs PyTorch 2.10 or newer; this is {torch.__version__}. `pull` works without."
        )
    place = find_device(device)
    with file.open("rb") as opened:
        _check_digest(opened, sha256)
        return _open(opened, inspection, dict(classes or {}), place)


def torch_release() -> tuple[int, int]:
    """Return the first two numbers of PyTorch's version."""
    found = re.match(r"(\d+)\.(\d+)", torch.__version__)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _check_verdict(file: Path, inspection: Inspection, *, trust_code: bool) -> None:
    if inspection.trust == "unsafe":
        raise UnsafeArtifactError(
            f"{file.name} would do harm, so it is not opened, trusted or not: {' '.join(inspection.reasons)}",
            globals=inspection.foreign_globals,
        )
    if inspection.trust == "tensors":
        raise InvalidRequestError(
            f"{file.name} holds no code, only tensors and plain values: use `pull` or `pull_checkpoint`."
        )
    if trust_code is not True:
        names = inspection.foreign_globals or inspection.globals
        raise TrustCodeRequiredError(
            f"Opening {file.name} runs code. It refers to: {name_some(names)}. "
            "If you trust who made it, say `trust_code=True`. The weights alone need no trust: `pull` gets them.",
            globals=names,
        )


def _check_digest(opened: BufferedReader, sha256: str | None) -> None:
    if sha256 is None:
        return
    found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256.removeprefix("sha256:"):
        raise DigestMismatchError(f"The file has the digest sha256:{found}, not {sha256}. Download it again.")
    opened.seek(0)


def _open(opened: BinaryIO, inspection: Inspection, classes: dict[str, object], device: torch.device) -> Any:
    try:
        if inspection.format == "torchscript":
            return cast("Any", torch.jit).load(opened, map_location=device)
        if inspection.format in _PICKLED:
            finder = _pickle_module(inspection.globals, classes)
            return torch.load(opened, map_location=device, pickle_module=finder, weights_only=False)
    except Exception as error:
        # The code of the file and of its classes may raise anything.
        raise UnsupportedValueError(_say_failure(error, inspection)) from error
    raise UnsupportedValueError(
        f"Files of the format {inspection.format} are not opened here. `download` gets the file; torch.export and "
        "torch.package open their own."
    )


def _pickle_module(known: Collection[str], classes: Mapping[str, object]) -> Any:
    """Return what `torch.load` takes as `pickle_module`: globals of `known` only, those of `classes` as given."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module_name: str, global_name: str, /) -> Any:
            name = f"{module_name}.{global_name}"
            if name in classes:
                return classes[name]
            if name not in known and name.replace("torch._tensor.", "torch.tensor.", 1) not in known:
                raise pickle.UnpicklingError(f"{name} was not seen when the file was read")
            return super().find_class(module_name, global_name)

    made = types.ModuleType("weighbridge_pickle")
    vars(made).update(Unpickler=Unpickler, load=_load_plain, UnpicklingError=pickle.UnpicklingError)
    return made


def _load_plain(opened: BinaryIO, **_options: object) -> Any:
    """Unpickle the plain numbers and lists between the parts of a legacy file."""
    return _NoGlobals(opened).load()


class _NoGlobals(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} where only numbers may be")


def _say_failure(error: Exception, inspection: Inspection) -> str:
    if isinstance(error, AttributeError | ImportError):
        own = [name for name in inspection.foreign_globals if not name.startswith("torch.")]
        example = own[0] if own else "__main__.Net"
        return (
            f"A class of the file was not found: {error}. Import its package, or say what it is here: "
            f'classes={{"{example}": {example.rpartition(".")[2]}}}.'
        )
    return f"The code of the file failed: {type(error).__name__}: {error}"
